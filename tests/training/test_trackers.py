"""Numbers written while a run goes."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.training.test_resume import Crash, at, crash

import holdfast
from holdfast.errors import DependencyError, HoldfastError
from holdfast.run import Run
from holdfast.training.events import EpochDone, Evaluating, Event, Measured, Resumed, StepDone
from holdfast.training.trackers import CsvTracker, TensorBoardTracker, numbers_of, tracking
from holdfast.training.watch import FiniteWatch

Fit = Callable[..., Run]


@pytest.fixture(autouse=True)
def _every_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop reads its means every second step, so that short runs have some."""
    monkeypatch.setattr(FiniteWatch, "EVERY", 2)


@pytest.mark.parametrize(
    ("event", "numbers"),
    [
        (StepDone(1, 2, 3, 0.5, step=2, lr=0.1, means={"loss": 0.5}), (2, 1, {"step/lr": 0.1, "step/loss": 0.5})),
        (StepDone(1, 3, 3, 0.5, step=3, lr=0.1, means={"loss": 0.5}), None),  # read for a checkpoint that was due
        (StepDone(1, 2, 3, step=2, lr=0.1), None),
        (EpochDone(2, 3, {"epoch": 2, "step": 6, "loss": 0.25, "val_loss": None}), (6, 2, {"epoch/loss": 0.25})),
        (Measured("features", 0, 0, {"entropy": 1.5, "examples": 4}), (0, 0, {"features/entropy": 1.5, "features/examples": 4})),
        (Evaluating("val"), None),
        (Resumed("run", 1, 3), None),
    ],
)
def test_numbers_of_an_event(event: Event, numbers: tuple[int, int, dict[str, float]] | None) -> None:
    assert numbers_of(event) == numbers


def test_steps_announce_counters_rate_and_now_and_then_means(fit: Fit) -> None:
    steps: list[StepDone] = []
    run = fit(listener=lambda event: steps.append(event) if isinstance(event, StepDone) else None, method="fnp", accumulate=2)
    assert [(event.step, event.epoch, event.step_in_epoch) for event in steps] == [(n + 1, n // 3 + 1, n % 3 + 1) for n in range(6)]
    assert [event.loss is not None for event in steps] == [False, True] * 3
    assert [set(event.means) for event in steps] == [set(), {"loss", "cross-entropy", "fnp", "train_accuracy"}] * 3
    assert steps[2].lr == run.history[0]["lr"]
    assert steps[5].means["loss"] == run.history[1]["loss"] == steps[5].loss
    assert [event.lr for event in steps] == sorted({event.lr for event in steps}, reverse=True)  # falling at every step


def test_csv_has_a_row_for_each_number(fit: Fit) -> None:
    run = fit(tracker="csv", track="features")
    rows = {(row["step"], row["name"]): row for row in run.metrics}
    assert list(run.metrics[0]) == ["step", "epoch", "name", "value"]
    assert len(rows) == len(run.metrics)
    for line in run.history:
        for name, value in line.items():
            if name not in ("epoch", "step"):
                assert rows[line["step"], f"epoch/{name}"] == {
                    "step": line["step"],
                    "epoch": line["epoch"],
                    "name": f"epoch/{name}",
                    "value": value,
                }
    assert {row["step"] for row in run.metrics if row["name"] == "step/loss"} == {2, 4, 6}
    assert [row["value"] for row in run.metrics if row["name"] == "features/entropy"] == [row["entropy"] for row in run.features]


def without_seconds(run: Run) -> list[dict[str, object]]:
    return [row for row in run.metrics if row["name"] != "epoch/seconds"]


@pytest.mark.parametrize("number", [1, 3, 4, 6])
def test_a_resumed_run_writes_what_an_undisturbed_one_does(number: int, fit: Fit, tmp_path: Path) -> None:
    options = {"tracker": ["csv"], "track": ["features"]}
    undisturbed = fit("undisturbed", **options)
    with pytest.raises(Crash):
        fit(**options, listener=at(StepDone, crash, number=number))
    with (tmp_path / "run" / "metrics.csv").open("a") as stream:
        stream.write("4,2,step/lo")  # the process ended in the middle of a line
    assert without_seconds(holdfast.fit(resume=tmp_path / "run")) == without_seconds(undisturbed)


def scalars(run: Run) -> dict[tuple[str, int], float]:
    """What TensorBoard shows, by tag and step; an error where a step is there twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run.tensorboard_dir), size_guidance={"scalars": 0})
    accumulator.Reload()
    found = [(tag, event.step, event.value) for tag in accumulator.Tags()["scalars"] for event in accumulator.Scalars(tag)]
    assert len(found) == len({entry[:2] for entry in found})
    return {(tag, step): value for tag, step, value in found}


@pytest.mark.parametrize("number", [None, 2, 5])
def test_tensorboard_shows_the_numbers_of_the_csv_file_even_after_a_crash(number: int | None, fit: Fit, tmp_path: Path) -> None:
    options = {"tracker": ["tensorboard", "csv"], "track": ["features"]}
    if number is None:
        run = fit(**options)
    else:
        with pytest.raises(Crash):
            fit(**options, listener=at(StepDone, crash, number=number))
        run = holdfast.fit(resume=tmp_path / "run")
    expected = {(row["name"], row["step"]): row["value"] for row in run.metrics}
    assert scalars(run) == {key: pytest.approx(value, rel=1e-6) for key, value in expected.items()}


def test_numbers_up_to_a_checkpoint_are_on_disk_with_it(fit: Fit, tmp_path: Path) -> None:
    seen = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5:  # with a checkpoint after each step; the tracker hears each event later
            seen.extend(scalars(Run.open(tmp_path / "run")))

    fit(tracker="tensorboard", listener=listen, checkpoint_minutes=0.0)
    assert {("step/loss", 2), ("epoch/val_loss", 3), ("step/loss", 4)} <= set(seen)


def test_trackers_are_closed_when_a_run_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    for kind in (CsvTracker, TensorBoardTracker):
        monkeypatch.setattr(kind, "close", lambda self: closed.append(type(self)))
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(Crash), tracking(["csv", "tensorboard", "csv"], run):
        raise Crash
    assert closed == [CsvTracker, TensorBoardTracker]


def test_without_trackers_nothing_more_is_written(fit: Fit) -> None:
    run = fit()
    assert not run.has("metrics.csv")
    assert not run.tensorboard_dir.exists()


def test_a_value_that_is_not_finite_is_an_empty_cell(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    with tracking(["csv"], run) as tracker:
        tracker(EpochDone(1, 1, {"epoch": 1, "step": 3, "loss": math.nan}))
    assert run.metrics == [{"step": 3, "epoch": 1, "name": "epoch/loss", "value": None}]


def test_a_missing_tensorboard_is_said_before_anything_else(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find_spec(name, *rest))
    with pytest.raises(DependencyError, match=r'pip install "holdfast\[tensorboard\]"') as error:
        holdfast.fit("nowhere", model="demo:glyphnet", tracker=["csv", "tensorboard"], out=tmp_path / "run")
    assert isinstance(error.value, HoldfastError)
    assert error.value.exit_status == 2
    assert str(error.value).startswith("fit(tracker=...) tensorboard: ")
    assert not (tmp_path / "run").exists()
