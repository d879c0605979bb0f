"""Two ranks with half the texts of each batch are one rank with all of them, though their batches are filled up to other lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra text")

from tests.processes import torchrun
from tests.small_texts import texts, write_network, write_table
from tests.training.small_runs import history

import holdfast
from holdfast.models.load import load_pretrained
from holdfast.run import Run

pytestmark = pytest.mark.ranks

CASES: dict[str, dict[str, Any]] = {
    "adarand+l2-sp": {"method": "adarand+l2-sp"},
    "bss": {"method": "bss"},
    "gce, truncated, with constraints": {
        "method": [{"name": "gce", "truncate": 0.3, "prune_start": 0}, {"name": "distance", "ratio": 0.02}],
    },
    "delta, accumulation": {"method": {"name": "delta", "attention": False, "weight": 1e-3}, "accumulate": 2},
}

SAME: dict[str, Any] = {
    **{"epochs": 3, "batch_size": 8, "optimizer": "sgd", "lr": 0.15, "device": "cpu", "threads": 1},
    **{"track": ["features"], "checkpoint_minutes": 1000.0},
}

DRIVER = """
import sys
from pathlib import Path

import holdfast
from holdfast.training import sharding
from tests.training.test_text_ranks import CASES, SAME

home = Path(sys.argv[1])
sharding.SMALLEST = 0
for name, options in CASES.items():
    for strategy in ("ddp", "fsdp"):
        out = home / ("two" if strategy == "ddp" else "fsdp") / name
        holdfast.fit(home / "texts.jsonl", model=f"hf:{home / 'net'}", **{**SAME, **options}, strategy=strategy, out=out)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without dropout, 40 texts, and the runs of two ranks."""
    home = tmp_path_factory.mktemp("ranks")
    write_network(home / "net", "bert-without-dropout", pooling='{"pooling_mode_mean_tokens": true}')
    write_table(home / "texts.jsonl", texts(14))
    (home / "two").mkdir()
    (home / "driver.py").write_text(DRIVER)
    done = torchrun(home / "driver.py", home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def one(home: Path, tmp_path: Path) -> Callable[[str], Run]:
    """The same run by one rank."""

    def train(case: str) -> Run:
        return holdfast.fit(home / "texts.jsonl", model=f"hf:{home / 'net'}", **{**SAME, **CASES[case]}, out=tmp_path / "one")

    return train


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_reproduce_one_on_texts(case: str, home: Path, one: Callable[[str], Run]) -> None:
    alone, two, spread = one(case), Run.open(home / "two" / case), Run.open(home / "fsdp" / case)
    torch.testing.assert_close(spread.load_weights(), two.load_weights(), rtol=1e-4, atol=1e-5)
    assert history(spread)[-1] == pytest.approx(history(two)[-1], rel=1e-3, abs=1e-5)
    torch.testing.assert_close(two.load_weights(), alone.load_weights(), rtol=1e-4, atol=1e-5)
    for mine, other in zip(history(two), history(alone), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    for row, other_row in zip(two.features, alone.features, strict=True):
        assert row == pytest.approx(other_row, rel=1e-4, abs=1e-5)
    start, after = load_pretrained(f"hf:{home / 'net'}").net.state_dict(), alone.load_weights()
    moved = {name: float((after[name] - tensor).abs().max()) for name, tensor in start.items() if name.startswith("tower.")}
    assert max(moved.values()) > 1e-3  # far more than the tolerance
