"""A run that was stopped anywhere and resumed ends exactly as one that was left alone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.training.small_runs import METHODS, OPTIONS, assert_same_run, assert_same_tensors

import holdfast
from holdfast.errors import CheckpointError, Interrupted
from holdfast.models.glyphnet import glyphnet
from holdfast.run import Run, directory
from holdfast.training import loop
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.events import CheckpointSaved, EpochDone, Evaluating, Event, Resumed, RunFinished, RunStarted, SetupStarted, StepDone
from holdfast.training.watch import FiniteWatch

Fit = Callable[..., Run]
Listener = Callable[[Event], None]


class Crash(Exception):
    """Stands for the end of the process."""


def crash_after(steps: int) -> Listener:
    """A listener that raises when so many optimizer steps have been done."""
    seen = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone):
            seen.append(event)
            if len(seen) == steps:
                raise Crash

    return listen


def at(kind: type, action: Callable[[], None], *, number: int = 1) -> Listener:
    """A listener that acts at the event of this kind and number."""
    seen = []

    def listen(event: Event) -> None:
        if isinstance(event, kind):
            seen.append(event)
            if len(seen) == number:
                action()

    return listen


def crash() -> None:
    raise Crash


def send(number: int) -> Callable[[], None]:
    """Send this process a signal."""
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture
def checkpoint_at_each_step(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(FiniteWatch, "EVERY", 1)
    return {"checkpoint_minutes": 0.0}


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of each method that nothing happens to."""
    runs: dict[str, Run] = {}

    def train(method: str) -> Run:
        if method not in runs:
            out = tmp_path_factory.mktemp("undisturbed") / "run"
            runs[method] = holdfast.fit(images, **OPTIONS, method=METHODS[method], out=out)
        return runs[method]

    return train


@pytest.mark.parametrize("method", METHODS)
def test_two_crashes_inside_epochs_change_nothing(
    method: str, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path, checkpoint_at_each_step: dict[str, float]
) -> None:
    with pytest.raises(Crash):
        fit(method=METHODS[method], listener=crash_after(2), **checkpoint_at_each_step)
    with pytest.raises(Crash):
        holdfast.fit(resume=tmp_path / "run", listener=crash_after(3))
    events: list[Event] = []
    resumed = holdfast.fit(resume=tmp_path / "run", listener=events.append)
    assert next(event for event in events if isinstance(event, Resumed)).step == 5
    assert_same_run(resumed, undisturbed(method))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", range(1, 7))
def test_a_signal_stops_at_a_checkpoint_that_goes_on_exactly(
    number: signal.Signals, steps: int, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after step .*holdfast fit --resume"):
        fit(method="adarand", listener=at(StepDone, send(number), number=steps))
    assert signal.getsignal(number) is before
    assert load_checkpoint(Run.open(tmp_path / "run"))["clock"]["step"] <= steps + 1
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def test_a_signal_during_the_pass_over_the_features_is_not_lost(fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="after step 1;"):
        fit(method="adarand", listener=at(SetupStarted, send(signal.SIGTERM)))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def test_a_second_ctrl_c_stops_at_once(fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(method="adarand", listener=at(SetupStarted, lambda: [send(signal.SIGINT)(), send(signal.SIGINT)()]))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


@pytest.mark.parametrize(
    ("kind", "number"),
    [(SetupStarted, 1), (CheckpointSaved, 1), (RunStarted, 1), (Evaluating, 1), (CheckpointSaved, 2), (EpochDone, 1), (EpochDone, 2)]
    + [(Evaluating, number) for number in range(3, 8)]
    + [(RunFinished, 1)],
)
def test_a_crash_at_any_event_changes_nothing(
    kind: type, number: int, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        fit(method="adarand", listener=at(kind, crash, number=number))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def crash_at_write(number: int, *, after: bool) -> Callable[[Any], Any]:
    """A stand-in for ``atomic_write`` whose write of this number, from 0, does not begin, or is the last thing to happen."""
    real, count = directory.atomic_write, iter(range(1000))

    @directory.contextmanager
    def write(path: Path) -> Any:
        now = next(count)
        if now == number and not after:
            raise Crash
        with real(path) as stream:
            yield stream
        if now == number:
            raise Crash

    return write


WRITES = 15
"""config, reference weights and record, splits, the first state; for each epoch weights, history, state; weights, predictions, result."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES))
def test_a_crash_at_any_write_changes_nothing(
    number: int, after: bool, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(directory, "atomic_write", crash_at_write(number, after=after))
        patch.setattr(FiniteWatch, "EVERY", 3)
        fit(method="adarand", checkpoint_minutes=0.0)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))
