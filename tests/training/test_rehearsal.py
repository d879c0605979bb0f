"""A few steps that stand for many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import METHODS, OPTIONS, each, options_of
from torch import Tensor

import holdfast
from holdfast import build
from holdfast.errors import DataError
from holdfast.planning import Plan
from holdfast.regularizers.adarand import AdaRand
from holdfast.training import rehearsal
from holdfast.training.loop import Trainer
from holdfast.training.rehearsal import Rehearsal, rehearse
from holdfast.types import Source

PARAMETERS = 8 * 3 * 9 + 8 * 2 + 8 * 8 * 9 + 8 * 2 + 8 * 3 + 3  # of the tiny network with its head of three classes


@pytest.fixture
def plan(images: Path, tmp_path: Path) -> Iterator[Any]:
    """Plan a run on the small images."""
    return lambda **options: holdfast.plan(**{"data": images, **OPTIONS, **options, "out": tmp_path / "run"})


@pytest.fixture
def rehearsed(plan: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The rehearsal behind a plan, and the job it was of."""
    found: list[tuple[Rehearsal, Any]] = []

    def note(job: Any) -> Rehearsal:
        found.append((rehearse(job), job))
        return found[-1][0]

    monkeypatch.setattr("holdfast.planning.rehearse", note)

    def run(**options: Any) -> tuple[Rehearsal, Any]:
        plan(**options)
        return found[-1]

    return run


@pytest.mark.parametrize("method", each(METHODS))
def test_every_method_can_be_rehearsed(method: str, plan: Any, tmp_path: Path) -> None:
    found: Plan = plan(**options_of(method))
    assert found.time.total > 6 * found.time.step > 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("options", "steps"), [({}, 6), ({"epochs": 1}, 3), ({"epochs": 9}, 6), ({"epochs": 1, "batch_size": 64}, 1)])
def test_no_more_steps_are_made_than_needed_or_than_there_are(
    options: dict[str, Any], steps: int, rehearsed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    update = Trainer.update

    def counted(self: Trainer, batches: Any) -> None:
        made.append(self.clock.step)
        update(self, batches)

    monkeypatch.setattr(Trainer, "update", counted)
    found, _ = rehearsed(**options)
    assert made == list(range(steps))
    assert found.steps == max(1, steps - 1)


def test_slow_steps_are_not_repeated(rehearsed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "ENOUGH_SECONDS", 0.0)
    assert rehearsed()[0].steps == 1  # the first step does not count


def test_the_step_is_the_median_of_all_but_the_first(rehearsed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_time_steps", lambda trainer: [60.0, 1.0, 9.0, 2.0])
    found, _ = rehearsed()
    assert (found.first_step_seconds, found.step_seconds, found.steps) == (60.0, 2.0, 3)


def test_what_is_stored_is_counted_in_bytes(rehearsed: Any) -> None:
    found, job = rehearsed(method="adarand+l2-sp", ema=0.9, optimizer="adamw")
    stored = found.stored
    buffers = 2 * (8 + 8) * 4 + 2 * 8  # running means and variances, and two counters of 8 bytes
    assert stored["weights"] == 4 * PARAMETERS + buffers
    assert stored["gradients"] == 4 * PARAMETERS
    assert stored["optimizer"] == 2 * 4 * PARAMETERS + 4 * 8  # both moments, and a counter for each of eight tensors
    assert stored["average"] == 4 * PARAMETERS
    assert stored["reference"] == stored["weights"] + 4 * (8 + 1) * 2  # five source classes instead of three
    states = [value for weighted in job.terms for value in weighted.term.state_dict().values() if isinstance(value, Tensor)]
    assert stored["methods"] == sum(tensor.nbytes for tensor in states)
    assert stored["methods"] > 4 * 4 * 3 * 8  # four matrices of AdaRand and more
    assert stored["images"] >= 36 * 3 * 16 * 16
    assert found.peak_memory_mib > 50


def test_frozen_parameters_have_neither_gradients_nor_moments(rehearsed: Any) -> None:
    found, _ = rehearsed(freeze="backbone")
    assert found.stored["gradients"] == found.stored["optimizer"] == 4 * (8 * 3 + 3)
    assert rehearsed(cache="off", workers=0)[0].stored["images"] == 0


class Recorded(AdaRand):
    """Notes what its setup is shown."""

    shown: list[list[int]] = []  # noqa: RUF012
    refuses_fewer_than = 0

    def setup(self, source: Source) -> None:
        labels = [label for batch in source.batches() for label in batch.labels.tolist()]
        self.shown.append(labels)
        if len(labels) < self.refuses_fewer_than:
            raise DataError("too few")
        super().setup(source)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr("holdfast.regularizers.adarand.AdaRand", Recorded)
    monkeypatch.setattr(Recorded, "shown", [])
    return Recorded


@pytest.mark.parametrize(("batches", "batch_size", "rows"), [(1, 6, 6), (2, 3, 6), (1, 1, 3), (3, 6, 18), (9, 6, 18)])
def test_setup_sees_a_part_of_the_data_with_all_classes(
    batches: int, batch_size: int, rows: int, rehearsed: Any, recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "TIMED_BATCHES", batches)
    clock = iter(range(1000))
    monkeypatch.setattr(rehearsal, "_now", lambda job: float(next(clock)))
    found, _ = rehearsed(method="adarand", batch_size=batch_size)
    (labels,) = recorded.shown
    assert len(labels) == rows
    assert set(labels) == {0, 1, 2}
    assert found.setup_seconds == pytest.approx(2 * 18 / (2 * rows))  # the clock ticks once; both passes are scaled up alike


def test_setup_sees_everything_where_a_part_will_not_do(rehearsed: Any, recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TIMED_BATCHES", 1)
    monkeypatch.setattr(recorded, "refuses_fewer_than", 18)
    rehearsed(method="adarand")
    assert [len(labels) for labels in recorded.shown] == [6, 18]
    assert recorded.shown[1] == sorted(recorded.shown[1])  # the true labels, in the order of the ids


def test_random_states_are_put_back_and_a_run_after_it_is_as_any_other(plan: Any, images: Path, tmp_path: Path) -> None:
    alone = holdfast.fit(images, **OPTIONS, method="adarand", out=tmp_path / "alone")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    plan(method="adarand", track=["features", "test"], tracker=["csv", "tensorboard"])
    assert torch.equal(torch.get_rng_state(), state)
    after = holdfast.fit(images, **OPTIONS, method="adarand", out=tmp_path / "after")
    assert all(torch.equal(value, after.load_weights()[name]) for name, value in alone.load_weights().items())


def test_a_plan_touches_no_file(plan: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path for folder in (tmp_path, images) for path in folder.rglob("*"))
    plan(track=["features", "test"], tracker=["csv", "tensorboard"], ema=0.5, store_reference="always")
    assert sorted(path for folder in (tmp_path, images) for path in folder.rglob("*")) == before
    assert build.Run.check_vacant(tmp_path / "run") is None
