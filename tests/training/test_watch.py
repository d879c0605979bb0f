"""A run stops at the first number that is none, says which, and saves nothing that is spoilt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import holdfast
from holdfast.catalog import register
from holdfast.distributed import SingleProcess
from holdfast.errors import NonFiniteError
from holdfast.run import Run
from holdfast.terms import Regularizer
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.watch import FiniteWatch
from holdfast.types import Step

Fit = Callable[..., Run]


def test_the_first_step_and_its_term_are_remembered() -> None:
    watch, good, bad = FiniteWatch(), torch.tensor(1.0), torch.tensor(float("inf"))
    for step, (loss, penalty) in enumerate([(good, good), (good, bad), (bad, bad), (good, good)]):
        watch.record({"cross-entropy": loss, "penalty": penalty}, step)
    with pytest.raises(NonFiniteError, match=r"^the term 'penalty' was not finite at step 1;"):
        watch.check(SingleProcess())


def test_good_numbers_and_none_at_all_pass() -> None:
    watch = FiniteWatch()
    watch.check(SingleProcess())
    watch.record({"cross-entropy": torch.tensor(3.0)}, 0)
    watch.check(SingleProcess())


def test_the_first_bad_tensor_is_named_and_counters_are_left_out() -> None:
    tensors = {"count": torch.tensor(3), "a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.tensor(float("inf"))}
    with pytest.raises(NonFiniteError, match=r"^the weights 'b' were not finite after step 7;"):
        FiniteWatch.check_tensors(tensors.items(), 7, SingleProcess())


@pytest.fixture
def spoiler(own_catalog: None) -> Iterator[str]:
    """A method whose penalty becomes something else at one step."""

    @register("spoiler", summary="becomes NaN or infinite at one step")
    class Spoiler(Regularizer):
        def __init__(self, *, at: int = 0, value: str = "nan") -> None:
            super().__init__()
            self.at = at
            self.value = value

        def penalty(self, step: Step) -> Tensor:
            value = step.logits.square().mean()
            return value * float(self.value) if step.step == self.at else value

    return "spoiler"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("at", "saved"), [(0, 0), (1, 0), (2, 0), (4, 3)], ids=["first", "inside", "last of epoch", "next epoch"])
def test_a_term_that_is_not_finite_stops_the_run_by_name(value: str, at: int, saved: int, fit: Fit, spoiler: str, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=f"^the term 'spoiler' was not finite at step {at};"):
        fit(method=["l2-sp", {"name": spoiler, "at": at, "value": value}])
    assert_state_is_good(tmp_path / "run", step=saved)
    assert not Run.open(tmp_path / "run").finished


def test_timed_checkpoints_save_nothing_spoilt(fit: Fit, spoiler: str, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="'spoiler' was not finite at step 1;"):
        fit(method={"name": spoiler, "at": 1}, checkpoint_minutes=0.0)
    assert_state_is_good(tmp_path / "run", step=1)


def test_a_resumed_run_meets_the_same_end(fit: Fit, spoiler: str, tmp_path: Path) -> None:
    for attempt in range(2):
        with pytest.raises(NonFiniteError, match="'spoiler' was not finite at step 4;"):
            fit(method={"name": spoiler, "at": 4}) if not attempt else holdfast.fit(resume=tmp_path / "run")
        assert_state_is_good(tmp_path / "run", step=3)


def assert_state_is_good(path: Path, *, step: int) -> None:
    state = load_checkpoint(Run.open(path))
    assert state is not None
    assert state["clock"]["step"] == step
    for tensors in (state["model"], *state["optimizer"]["state"].values()):
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if isinstance(tensor, Tensor))


@pytest.mark.parametrize(
    "options", [{"batch_size": 18, "epochs": 1}, {"checkpoint_minutes": 0.0}], ids=["last step of all", "checkpoint inside an epoch"]
)
def test_weights_that_overflow_are_not_saved(options: dict[str, Any], fit: Fit, tmp_path: Path) -> None:
    # The loss of the first step is finite, the gradient of the head about 1e4.
    method = {"name": "l2-sp", "head_weight": 1e6}
    with pytest.raises(
        NonFiniteError, match=r"^the weights 'model.net.*' were not finite after step 1; the last checkpoint is from before"
    ):
        fit(method=method, lr=3e38, schedule="constant", **options)
    assert_state_is_good(tmp_path / "run", step=0)
    assert not list((tmp_path / "run/checkpoint").glob("epoch-*"))
