"""Two ranks with half the batch each are one rank with the whole batch, up to the order of sums."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import like_srun, torchrun
from tests.training.rank_runs import CASES, ROBUST, SAME, TwoRanks
from tests.training.small_runs import assert_same_run, assert_same_tensors, history
from torch import Tensor

import holdfast
from holdfast.models.load import load_pretrained
from holdfast.run import Run
from holdfast.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ranks


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


def test_two_ranks_estimate_wrong_labels_and_train_with_them_as_one_does(two_ranks: TwoRanks, tmp_path: Path) -> None:
    one, two = holdfast.fit(**ROBUST, out=tmp_path / "one"), Run.open(two_ranks.runs / "robust")
    estimates = [json.loads((run.path / "estimate/transition.json").read_text()) for run in (one, two)]
    assert estimates[0]["transition"] == estimates[1]["transition"]
    methods = [[{**entry, "transition": None} for entry in run.config["method"]] for run in (one, two)]
    assert methods[0] == methods[1]
    torch.testing.assert_close(two.load_weights(), one.load_weights(), rtol=1e-4, atol=1e-5)


def test_ranks_that_were_given_different_options_are_refused(two_ranks: TwoRanks) -> None:
    for seen in two_ranks.seen:
        assert re.match(r"--out \S+own-0: it is '\S+own-1' on rank 1, and the ranks of a run have", seen["errors"]["own"])
    assert not [path for path in two_ranks.runs.iterdir() if "own" in path.name]


def test_the_tasks_of_a_slurm_step_are_one_run(images: Path, tmp_path: Path) -> None:
    words = ["fit", images, "--model", "demo:glyphnet", "--epochs", "1", "--batch-size", "6", "--device", "cpu", "--devices", "2"]
    done = like_srun([*words, "--out", tmp_path / "run"], count=2)
    assert [task.returncode for task in done] == [0, 0], done[0].stderr
    assert load_checkpoint(holdfast.load(tmp_path / "run"))["ranks"] == 2
