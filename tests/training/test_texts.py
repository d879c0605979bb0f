"""Whole trainings on texts: the methods, exact resuming, and what the loop offers beside."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra text")

from tests.small_texts import CLASSES, texts, write_network, write_table
from tests.training.small_runs import assert_same_run, history

import holdfast
from holdfast.errors import ConfigError, DataError, DependencyError, HoldfastError
from holdfast.models.load import load_pretrained
from holdfast.predict import predict
from holdfast.run import Run
from holdfast.training.loop import Trainer
from holdfast.types import TextSpec

OPTIONS: dict[str, Any] = {
    **{"epochs": 2, "batch_size": 6, "optimizer": "adamw", "lr": 1e-3, "device": "cpu", "threads": 1, "checkpoint_minutes": 1000.0},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and a table of 18 texts to train on and 9 for each of val and test; not to be changed."""
    home = tmp_path_factory.mktemp("texts")
    write_network(home / "bert", head=True)
    write_network(home / "encoder", "bert-without-dropout", pooling='{"pooling_mode_mean_tokens": true}')
    rows = [{**row, "split": split} for split, count in (("train", 6), ("val", 3), ("test", 3)) for row in texts(count)]
    write_table(home / "texts.jsonl", rows)
    return home


@pytest.fixture
def fit(home: Path, tmp_path: Path) -> Callable[..., Run]:
    """Train on the small texts: ``fit("name", method="fnp")`` writes a run directory of that name."""

    def train(name: str = "run", **options: Any) -> Run:
        return holdfast.fit(**{"data": home / "texts.jsonl", "model": f"hf:{home / 'bert'}", **OPTIONS, **options, "out": tmp_path / name})

    return train


METHODS: dict[str, Any] = {
    **{name: name for name in ("fnp", "randreg", "randreg-cp", "adarand", "l2-sp", "bss", "core-tuning", "co-tuning")},
    "delta": {"name": "delta", "attention": False, "weight": 1e-3},
    "dr-tune": {"name": "dr-tune", "queue_size": 9},
    "uot": {"name": "uot", "classes": 2},
}


BRIEFLY = ("adarand", "delta", "uot")
"""Those that every run of the tests looks at."""


@pytest.mark.parametrize("method", [method if method in BRIEFLY else pytest.param(method, marks=pytest.mark.slow) for method in METHODS])
def test_methods_of_features_weights_and_token_maps_train_on_texts(method: str, fit: Callable[..., Run], home: Path) -> None:
    source = {"source_data": str(home / "texts.jsonl")} if method == "uot" else {}
    run = fit(method=METHODS[method], epochs=1, **source)
    assert run.test.n == 9
    name = next(name for name in run.load_weights() if "query.weight" in name)
    assert not torch.equal(run.load_weights()[name], load_pretrained(f"hf:{home / 'bert'}").net.state_dict()[name])


def test_texts_are_learned_from_the_word_that_tells_their_class(fit: Callable[..., Run]) -> None:
    run = fit(epochs=12, lr=1e-2)
    assert run.test.accuracy == 1
    assert run.splits["train"][0] == "train/000001"
    assert run.config["max_length"] == 40
    assert run.versions["transformers"]


class Stopped(Exception):
    """The process died."""


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_run_that_died_goes_on_bit_for_bit(step: int, fit: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = {"method": "adarand+l2-sp", "gradient_checkpointing": True, "layer_decay": 0.8, "ema": 0.9, "precision": "bf16"}
    whole = fit("whole", **options)
    update = Trainer.update

    def update_or_die(self: Trainer, batches: Any) -> None:
        if self.clock.step == step:
            raise Stopped
        update(self, batches)

    monkeypatch.setattr(Trainer, "update", update_or_die)
    with pytest.raises(Stopped):
        fit("died", **options)
    monkeypatch.setattr(Trainer, "update", update)
    assert_same_run(holdfast.fit(resume=tmp_path / "died"), whole)


def test_two_micro_batches_are_the_whole_batch(fit: Callable[..., Run], home: Path) -> None:
    options = {"model": f"hf:{home / 'encoder'}", "method": "adarand"}
    one, two = fit("one", **options), fit("two", accumulate=2, **options)
    torch.testing.assert_close(two.load_weights(), one.load_weights(), rtol=1e-4, atol=1e-5)


def test_features_are_tracked_and_frozen_layers_stay(fit: Callable[..., Run], home: Path) -> None:
    run = fit(track=["features"], freeze=["bert.embeddings", "bert.encoder.layer.0"])
    assert [row["epoch"] for row in run.features] == [0, 1, 2]
    before = load_pretrained(f"hf:{home / 'bert'}").net.state_dict()
    moved = {
        name.split(".")[2] for name, tensor in run.load_weights().items() if "encoder" in name and not torch.equal(tensor, before[name])
    }
    assert moved == {"layer"}
    assert not any(
        "layer.0" in name or "embeddings" in name
        for name, tensor in run.load_weights().items()
        if name in before and tensor.shape == before[name].shape and not torch.equal(tensor, before[name])
    )


def test_a_plan_counts_the_tokens(home: Path, tmp_path: Path) -> None:
    plan = holdfast.plan(home / "texts.jsonl", model=f"hf:{home / 'bert'}", out=tmp_path / "run", **OPTIONS)
    assert plan.memory.stored["texts"] > 0
    assert plan.total_steps == 6


def test_a_finished_run_predicts_without_the_folder_it_came_from(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "encoder", tmp_path / "network")
    run = holdfast.fit(
        home / "texts.jsonl", model=f"hf:{tmp_path / 'network'}", out=tmp_path / "run", **{**OPTIONS, "epochs": 20, "lr": 1e-2}
    )
    shutil.rmtree(tmp_path / "network")
    (tmp_path / "new.csv").write_text('id,text\na,"the dog sleeps"\nb,\nc,"a very big fly"\n')
    told = []
    found = list(predict(run, [tmp_path / "new.csv"], device="cpu", on_unreadable=lambda name, error: told.append(str(error))))
    assert [(entry.input, entry.text, entry.label) for entry in found] == [("a", "the dog sleeps", "dog"), ("c", "a very big fly", "fly")]
    assert told == ["b: the text is empty."]
    with pytest.raises(DataError, match=r"b: the text is empty"):
        list(predict(run, [tmp_path / "new.csv"], device="cpu"))
    rows = run.load_predictions()["test"]
    texts_of_test = [row["text"] for row in texts(3)]
    (tmp_path / "test.txt").write_text("\n".join(texts_of_test))
    labels = [entry.label for entry in predict(run, [tmp_path / "test.txt"], device="cpu")]
    assert labels == [CLASSES[index] for index in rows.logits.argmax(axis=1)]


REFUSED: list[tuple[dict[str, Any], type[HoldfastError], str]] = [
    ({"method": "bi-tuning"}, ConfigError, "--method bi-tuning: compares augmented views of an image, and texts have none"),
    ({"method": "mixup"}, ConfigError, "--method mixup: mixes inputs with each other, and texts cannot be mixed"),
    ({"method": "stochnorm"}, HoldfastError, "BatchNorm"),
    (
        {"method": {"name": "delta", "attention": True}},
        ConfigError,
        "delta: the attention of channels needs maps of one size, .* type --method.attention false",
    ),
    ({"image_size": 64}, ConfigError, r"image_size=.* 64: .*hf:.* reads texts, and this is about images; leave it out"),
    ({"augment": "none"}, ConfigError, "augment=.* none: .* reads texts"),
    ({"flip": False}, ConfigError, "flip=.* false: .* reads texts"),
    ({"normalization": "half"}, ConfigError, "normalization=.* half: .* reads texts"),
    ({"model": "demo:glyphnet", "max_length": 64}, ConfigError, "max_length=.* 64: .*demo:glyphnet reads images, which have no tokens"),
    ({"model": "demo:glyphnet"}, DataError, "these are texts, and the network reads images"),
    ({"data": "demo:digits"}, DataError, "demo:digits: these are images, and the network reads texts"),
    ({"max_length": 41}, ConfigError, "--max-length 41: hf:.* takes texts of at most 40 tokens"),
    ({"method": "co-tuning", "model": "encoder"}, ConfigError, "'co-tuning' needs the classification head of the pretraining"),
]


@pytest.mark.parametrize(("options", "kind", "sentence"), REFUSED)
def test_what_does_not_fit_texts_is_refused_in_one_sentence(
    options: dict[str, Any], kind: type[HoldfastError], sentence: str, fit: Callable[..., Run], home: Path
) -> None:
    if options.get("model") == "encoder":
        options = {**options, "model": f"hf:{home / 'encoder'}"}
    with pytest.raises(kind, match=sentence) as error:
        fit(**options)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named_with_the_extra(fit: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else found(name))
    with pytest.raises(DependencyError, match=r'transformers is not installed; type pip install "holdfast\[text\]"'):
        fit()


def test_the_history_of_a_run_on_texts_has_the_usual_columns(fit: Callable[..., Run]) -> None:
    assert {"loss", "train_accuracy", "val_accuracy", "val_loss"} <= set(history(fit())[0])


def test_a_loop_of_ones_own_takes_a_network_of_transformers_and_its_inputs(home: Path) -> None:
    loaded = load_pretrained(f"hf:{home / 'bert'}")
    assert isinstance(loaded.input, TextSpec)
    tokenizer, rows = loaded.input.tokenizer, texts(4)
    labels = torch.tensor([CLASSES.index(row["label"]) for row in rows])
    batches = [
        (tokenizer.batch(tokenizer.encode([row["text"] for row in rows[start : start + 6]], 40)), labels[start : start + 6])
        for start in (0, 6)
    ]
    net = loaded.net.train()
    net.classifier = torch.nn.Linear(16, 3)
    terms = holdfast.attach(net, "adarand+l2-sp", batches, num_classes=3)
    terms.loss(*batches[0]).backward()
    terms.after_step()
    assert all(parameter.grad is not None for parameter in net.parameters())
