"""A run that was stopped anywhere and resumed ends exactly as one that was left alone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.training.small_runs import METHODS, OPTIONS, assert_same_run, assert_same_tensors, each, options_of

import holdfast
from holdfast.errors import CheckpointError, Interrupted
from holdfast.models.glyphnet import glyphnet
from holdfast.run import Run, storage
from holdfast.run.files import atomic_write
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.events import (
    CheckpointSaved,
    EpochDone,
    Evaluating,
    Event,
    Resumed,
    RunFinished,
    RunStarted,
    SetupStarted,
    StepDone,
)

Fit = Callable[..., Run]
Listener = Callable[[Event], None]


class Crash(Exception):
    """Stands for the end of the process."""


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


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of each method that nothing happens to."""
    runs: dict[str, Run] = {}

    def train(method: str) -> Run:
        if method not in runs:
            out = tmp_path_factory.mktemp("undisturbed") / "run"
            runs[method] = holdfast.fit(images, **OPTIONS, **options_of(method), out=out)
        return runs[method]

    return train


@pytest.mark.parametrize("method", each(METHODS))
def test_two_crashes_inside_epochs_change_nothing(method: str, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(**options_of(method), listener=at(StepDone, crash, number=2), checkpoint_minutes=0.0)
    with pytest.raises(Crash):
        holdfast.fit(resume=tmp_path / "run", listener=at(StepDone, crash, number=3))
    events: list[Event] = []
    resumed = holdfast.fit(resume=tmp_path / "run", listener=events.append)
    assert next(event for event in events if isinstance(event, Resumed)).step == 5
    assert_same_run(resumed, undisturbed(method))


@pytest.mark.parametrize(
    ("number", "steps", "stopped"),
    [(signal.SIGTERM, 1, 2), (signal.SIGINT, 2, 3), (signal.SIGTERM, 3, 3), (signal.SIGTERM, 6, 6)],
    ids=["inside an epoch", "before its last step", "after its last step", "after the last step of all"],
)
def test_a_signal_stops_at_a_checkpoint_that_goes_on_exactly(
    number: signal.Signals, steps: int, stopped: int, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after step {stopped}; .*holdfast fit --resume"):
        fit(method="adarand", listener=at(StepDone, send(number), number=steps))
    assert signal.getsignal(number) is before
    assert load_checkpoint(Run.open(tmp_path / "run"))["clock"]["step"] == stopped
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def test_a_signal_during_the_pass_over_the_features_is_not_lost(fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="after step 1;"):
        fit(method="adarand", listener=at(SetupStarted, send(signal.SIGTERM)))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def test_a_second_ctrl_c_stops_at_once(fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(method="adarand", listener=at(SetupStarted, lambda: [send(signal.SIGINT)(), send(signal.SIGINT)()]))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


EVENTS = [(RunStarted, 1), (SetupStarted, 1), (CheckpointSaved, 1), (Evaluating, 1), (CheckpointSaved, 2), (EpochDone, 1)]
EVENTS += [(Evaluating, number) for number in range(2, 8)] + [(EpochDone, 2), (RunFinished, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), EVENTS, ids=[f"{kind.__name__}-{number}" for kind, number in EVENTS])
def test_a_crash_at_any_event_changes_nothing(kind: type, number: int, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(method="adarand", listener=at(kind, crash, number=number))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def crash_at_write(number: int, *, after: bool) -> Callable[[Path], Any]:
    """A stand-in for ``atomic_write`` that crashes in the write of this number, from 0, or right after it."""
    count = iter(range(1000))

    @contextmanager
    def write(path: Path) -> Iterator[BinaryIO]:
        now = next(count)
        with atomic_write(path) as stream:
            yield stream
            if now == number and not after:
                raise Crash
        if now == number:
            raise Crash

    return write


def fit_with_crash(fit: Fit, number: int, *, after: bool) -> None:
    """Train with a checkpoint after each step, until the write of this number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "atomic_write", crash_at_write(number, after=after))
        with pytest.raises(Crash):
            fit(method="adarand", checkpoint_minutes=0.0)


WRITES = ["config", "reference", "reference record", "splits", *["state"] * 4, "weights", "history", *["state"] * 4, "weights", "history"]
WRITES += ["state", "model", "predictions", "result"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, len(WRITES)), ids=[f"{i}-{name}" for i, name in enumerate(WRITES) if i])
def test_a_crash_at_any_write_changes_nothing(
    number: int, after: bool, fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    fit_with_crash(fit, number, after=after)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


def test_a_crash_between_history_and_checkpoint_leaves_no_row_twice(fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    fit_with_crash(fit, WRITES.index("history"), after=True)
    assert len(Run.open(tmp_path / "run").history) == 1
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed("adarand"))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "accumulate": 2, "precision": "bf16"},
        {"model": "demo:glyphnet", "batchnorm": "frozen", "select": "val-loss", "schedule": "step", "milestones": [1]},
        {
            **{"optimizer": "adamw", "accumulate": 2, "precision": "bf16", "lr": 1e-3, "layer_decay": 0.8, "head_lr_factor": 10.0},
            **{"ema": 0.9, "clip_norm": 0.5, "patience": 2, "warmup": "cosine", "warmup_epochs": 0.5, "freeze": ["0"]},
        },
        pytest.param({"cache": "off", "workers": 1}, marks=pytest.mark.slow),
    ],
    ids=["adamw, accumulation, bf16", "glyphnet, frozen, val-loss, step", "adamw, averaging, freezing", "workers"],
)
def test_other_ways_of_training_resume_exactly_too(options: dict[str, Any], fit: Fit, tmp_path: Path) -> None:
    options = {"method": "adarand", "epochs": 3, **options}
    with pytest.raises(Crash):
        fit(**options, listener=at(StepDone, crash, number=5), checkpoint_minutes=0.0)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), fit("undisturbed", **options))


@pytest.mark.parametrize("step", range(1, 10))
def test_with_everything_switched_on_a_crash_after_any_step_changes_nothing(
    step: int, everything: tuple[dict[str, Any], Run], fit: Fit, tmp_path: Path
) -> None:
    options, undisturbed = everything
    with pytest.raises(Crash):
        fit(**options, listener=at(StepDone, crash, number=step), checkpoint_minutes=0.0)
    resumed = holdfast.fit(resume=tmp_path / "run")
    assert_same_run(resumed, undisturbed)
    states = [load_checkpoint(run) for run in (resumed, undisturbed)]
    averages = [state["candidates"]["average"] for state in states if state is not None]
    assert averages[0]["updates"] == averages[1]["updates"] == 9
    assert_same_tensors(averages[0]["weights"], averages[1]["weights"])
    assert_same_tensors(*(state["model"] for state in states if state is not None))


@pytest.fixture(scope="module")
def everything(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    """Options that use all there is, on BatchNorm, dropout and a method with a prior, and the run that nothing happens to.

    It stops early: after three of six epochs, since the validation loss rises at this rate.
    """
    options = {
        **{"method": "adarand+l2-sp", "epochs": 6, "precision": "bf16", "accumulate": 3, "lr": 3.0, "schedule": "constant"},
        **{"layer_decay": 0.7, "head_lr_factor": 3.0, "warmup_steps": 2, "warmup": "constant", "warmup_start": 0.5},
        **{"ema": 0.5, "clip_norm": 0.5, "patience": 2, "select": "val-loss"},
    }
    run = holdfast.fit(images, **{**OPTIONS, **options}, out=tmp_path_factory.mktemp("everything") / "run")
    assert run.result["training"]["stopped_early"]
    assert len(run.history) == 3
    return options, run


@pytest.mark.parametrize("left", [{"config.yaml"}, {"config.yaml", "reference.safetensors"}], ids=["config", "config and weights"])
def test_a_run_that_only_just_began_is_started(left: set[str], fit: Fit, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fit(method="adarand", listener=at(SetupStarted, crash))
    for path in (tmp_path / "run").iterdir():
        if path.name not in left:
            path.unlink()
    resumed = holdfast.fit(resume=tmp_path / "run")
    assert_same_run(resumed, undisturbed("adarand"))
    assert resumed.splits == undisturbed("adarand").splits
    assert resumed.reference == undisturbed("adarand").reference
    assert_same_tensors(resumed.load_reference_weights(), undisturbed("adarand").load_reference_weights())


def test_a_finished_run_is_returned_as_it_is(fit: Fit, tmp_path: Path) -> None:
    run = fit()
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    events: list[Event] = []
    assert holdfast.fit(resume=run.path, listener=events.append).result == run.result
    assert events == [RunFinished(str(run.path), run.result)]
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.fixture
def stopped(fit: Fit, images: Path, tmp_path: Path) -> Path:
    """A run that was stopped inside its first epoch, on data and weights that may be changed."""
    shutil.copytree(images, tmp_path / "data")
    save_file(glyphnet().state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(Interrupted):
        fit(
            data=tmp_path / "data",
            model="demo:glyphnet",
            weights=tmp_path / "weights.safetensors",
            listener=at(StepDone, send(signal.SIGTERM)),
        )
    return tmp_path / "run"


def test_changed_data_is_refused(stopped: Path) -> None:
    Image.new("RGB", (20, 20)).save(stopped.parent / "data/train/bee/0.png")
    with pytest.raises(CheckpointError, match=r"^--resume .*run: the data in '.*data' changed since the checkpoint \("):
        holdfast.fit(resume=stopped)


def test_a_new_image_is_refused(stopped: Path) -> None:
    Image.new("RGB", (20, 20)).save(stopped.parent / "data/test/bee/new.png")
    with pytest.raises(CheckpointError, match="the data in"):
        holdfast.fit(resume=stopped)


def test_changed_weights_are_refused(stopped: Path) -> None:
    file = stopped.parent / "weights.safetensors"
    weights = load_file(file)
    weights["stem.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"^--resume .*run: the weights of 'demo:glyphnet' changed since the checkpoint \("):
        holdfast.fit(resume=stopped)


def test_changed_options_are_refused(stopped: Path) -> None:
    config = stopped / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(CheckpointError, match=r"run: the option lr is 0.02 in config.yaml and was 0.01 at the checkpoint; change it back"):
        holdfast.fit(resume=stopped)


def test_changed_options_of_a_method_are_refused_by_name(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(method="adarand", listener=at(StepDone, send(signal.SIGTERM)))
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("alpha: 0.5", "alpha: 0.25"))
    with pytest.raises(CheckpointError, match=r"the option method\[1\].alpha is 0.25 in config.yaml and was 0.5 at the checkpoint"):
        holdfast.fit(resume=tmp_path / "run")


def test_another_method_is_refused_by_name(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(listener=at(StepDone, send(signal.SIGTERM)))
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("method:\n", "method:\n- name: fnp\n"))
    with pytest.raises(CheckpointError, match=r"the option method is \[.*'fnp'.*\] in config.yaml and was \[.*\] at the checkpoint"):
        holdfast.fit(resume=tmp_path / "run")


def test_another_number_of_ranks_is_refused(stopped: Path) -> None:
    state = stopped / "checkpoint/state.pt"
    torch.save({**torch.load(state, weights_only=True), "ranks": 2}, state)
    with pytest.raises(CheckpointError, match=r"the checkpoint is from 2 rank\(s\), this is 1; start as many as before"):
        holdfast.fit(resume=stopped)


def test_a_refusal_leaves_the_run_as_it_was(stopped: Path) -> None:
    image = stopped.parent / "data/train/bee/0.png"
    content = image.read_bytes()
    Image.new("RGB", (20, 20)).save(image)
    with pytest.raises(CheckpointError):
        holdfast.fit(resume=stopped)
    image.write_bytes(content)
    assert holdfast.fit(resume=stopped).finished
