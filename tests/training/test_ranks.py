"""Two ranks with half the batch each are one rank with the whole batch, up to the order of sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import torchrun
from tests.training.small_runs import LIVE_BATCHNORM, METHODS, OPTIONS, assert_same_run, assert_same_tensors, history, options_on_glyphnet
from torch import Tensor

import holdfast
from holdfast.models.load import load_pretrained
from holdfast.run import Run
from holdfast.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ranks

CASES: dict[str, dict[str, Any]] = {name: options_on_glyphnet(name) for name in METHODS if name not in LIVE_BATCHNORM}
CASES |= {
    "adarand, accumulation": {"method": "adarand", "accumulate": 2},
    "delta, accumulation": {**options_on_glyphnet("delta"), "accumulate": 2},
    "delta-attention": {**options_on_glyphnet("delta-attention"), "lr": 0.02},
    "l2-sp, accumulation, adamw": {"method": "l2-sp", "accumulate": 2, "optimizer": "adamw", "lr": 1e-3},
    "averaging, clipping, layer-wise rates, patience": {
        **{"method": "adarand", "ema": 0.5, "clip_norm": 0.5, "layer_decay": 0.9, "freeze": ["stem.1"]},
        **{"lr": 0.1, "epochs": 3, "patience": 1},
    },
    "adarand, balanced and weighted": {
        **{"method": "adarand", "sampling": "balanced", "class_weights": "balanced"},
        **{"split": "paper", "train_fraction": 0.7, "data_seed": 3},  # 3, 5 and 4 images of the classes
    },
}
"""By folder name; all with BatchNorm frozen, where the equality holds."""

SAME = {**OPTIONS, "model": "demo:glyphnet", "image_size": None, "batch_size": 8, "batchnorm": "frozen", "lr": 0.01}

DRIVER = """
import os, signal, sys
from pathlib import Path

import torch

import holdfast
from holdfast import build
from holdfast.distributed import ProcessGroup
from holdfast.errors import Interrupted, NonFiniteError
from holdfast.training.loop import Trainer
from holdfast.training.watch import FiniteWatch
from tests.training.test_ranks import CASES, SAME

images, runs = map(Path, sys.argv[1:])
rank = int(os.environ["RANK"])
finish, update = build.finish, Trainer.update
terms = {}


def finish_and_keep_terms(trainer, **options):
    terms[trainer.job.run.path.name] = trainer.objective.terms.state_dict()
    return finish(trainer, **options)


def update_and_be_stopped(self, batches):
    update(self, batches)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)


build.finish = finish_and_keep_terms
for name, options in CASES.items():
    holdfast.fit(images, **{**SAME, **options}, out=runs / name)

errors = {}
for name, every in (("stopped inside", 1), ("stopped at the end of the epoch", 50)):
    FiniteWatch.EVERY, Trainer.update = every, update_and_be_stopped
    try:
        holdfast.fit(images, **SAME, method="adarand", out=runs / name)
    except Interrupted as error:
        errors[name] = str(error)
    FiniteWatch.EVERY, Trainer.update = 50, update
    holdfast.fit(resume=runs / name)
try:
    holdfast.fit(images, **{**SAME, "lr": 3e38}, out=runs / "overflow")
except NonFiniteError as error:
    errors["overflow"] = str(error)

comm = ProcessGroup()
rows = torch.arange(6.0).reshape(3, 2)[: 2 - rank].add(10 * rank).requires_grad_()  # two rows, then one
gathered = comm.gather(rows)
(gathered * torch.arange(6.0).reshape(3, 2).add(100 * rank)).sum().backward()  # each rank's loss reads all rows in its own way
found = {
    "gathered": gathered.detach(),
    "grad": rows.grad,
    "rows of one rank": comm.gather(torch.ones(rank, 3)),
    "flags": comm.broadcast(torch.tensor([rank == 0, rank == 1])),
    "number": comm.broadcast(torch.tensor(7 + rank)),
    "sum": comm.sum(torch.tensor([1.0, rank], requires_grad=True)),
}
torch.save({"terms": terms, "errors": errors, "comm": found}, runs / f"rank-{rank}.pt")
"""


@dataclass(frozen=True)
class TwoRanks:
    """What the driver left: run directories, and what each rank saw."""

    runs: Path
    seen: tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def two_ranks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoRanks:
    runs = tmp_path_factory.mktemp("ranks")
    (runs / "driver.py").write_text(DRIVER)
    done = torchrun(runs / "driver.py", images, runs)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(runs / f"rank-{rank}.pt", weights_only=False) for rank in range(2))
    return TwoRanks(runs, (first, second))


def tensors(states: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in states.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_reproduce_one(case: str, two_ranks: TwoRanks, fit: Callable[..., Run]) -> None:
    one, two = fit(**{**SAME, **CASES[case]}), Run.open(two_ranks.runs / case)
    torch.testing.assert_close(two.load_weights(), one.load_weights(), rtol=1e-4, atol=1e-5)
    ours, theirs = load_checkpoint(one), load_checkpoint(two)
    assert ours is not None
    assert theirs is not None
    assert theirs["ranks"] == 2
    torch.testing.assert_close(tensors(theirs["terms"]), tensors(ours["terms"]), rtol=1e-4, atol=1e-5)
    for mine, other in zip(history(two), history(one), strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
    assert (two.test.n, two.test.loss) == pytest.approx((one.test.n, one.test.loss), rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_training_moved_what_is_compared(case: str, two_ranks: TwoRanks) -> None:
    run = Run.open(two_ranks.runs / case)
    start = load_pretrained("demo:glyphnet").net.state_dict()
    assert (run.load_weights()["stem.0.weight"] - start["stem.0.weight"]).abs().max() > 1e-3  # ten times the tolerance and more


@pytest.mark.parametrize("case", CASES)
def test_terms_have_the_same_state_on_both_ranks(case: str, two_ranks: TwoRanks) -> None:
    first, second = (tensors(seen["terms"][case]) for seen in two_ranks.seen)
    assert_same_tensors(first, second)
    if "adarand" in case:
        names = {name.rpartition(".")[2] for name in first}
        assert {"mean", "running_mean", "active", "exp_avg"} <= names


@pytest.mark.parametrize("name", ["stopped inside", "stopped at the end of the epoch"])
def test_a_signal_to_one_rank_stops_both_and_the_run_goes_on_exactly(name: str, two_ranks: TwoRanks) -> None:
    first, second = (seen["errors"][name] for seen in two_ranks.seen)
    assert first.startswith(f"stopped by another rank after step {1 if name == 'stopped inside' else 2};")
    assert second.startswith("stopped by SIGTERM")
    assert_same_run(Run.open(two_ranks.runs / name), Run.open(two_ranks.runs / "adarand"))


def test_weights_that_overflow_stop_both_ranks(two_ranks: TwoRanks) -> None:
    for seen in two_ranks.seen:
        assert "not finite" in seen["errors"]["overflow"]
    state = load_checkpoint(Run.open(two_ranks.runs / "overflow"))
    assert state is not None
    assert state["clock"]["step"] == 0


def test_gather_joins_unequal_shares_and_sums_gradients_over_ranks(two_ranks: TwoRanks) -> None:
    first, second = (seen["comm"] for seen in two_ranks.seen)
    whole = torch.tensor([[0.0, 1.0], [2.0, 3.0], [10.0, 11.0]])
    gradient = 2 * torch.arange(6.0).reshape(3, 2) + 100  # of the sum of both ranks' losses, not of their mean
    for found, own in ((first, slice(0, 2)), (second, slice(2, 3))):
        assert torch.equal(found["gathered"], whole)
        assert torch.equal(found["grad"], gradient[own])
        assert torch.equal(found["rows of one rank"], torch.ones(1, 3))


def test_broadcast_and_sum_give_all_ranks_the_same(two_ranks: TwoRanks) -> None:
    for found in (seen["comm"] for seen in two_ranks.seen):
        assert found["flags"].dtype is torch.bool
        assert found["flags"].tolist() == [True, False]
        assert found["number"].item() == 7
        assert found["sum"].tolist() == [2.0, 1.0]
        assert not found["sum"].requires_grad


def test_the_command_finds_its_ranks_and_speaks_once(images: Path, tmp_path: Path) -> None:
    words = [
        "--model",
        "demo:glyphnet",
        "--epochs",
        "1",
        "--batch-size",
        "6",
        "--device",
        "cpu",
        "--devices",
        "2",
        "--out",
        tmp_path / "run",
    ]
    done = torchrun("-m", "holdfast", "fit", images, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Weights of epoch 1") == 1
    assert holdfast.load(tmp_path / "run").finished
