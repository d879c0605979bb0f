"""What is shown while a run trains."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from holdfast.cli import progress as module
from holdfast.cli.progress import progress
from holdfast.run import Run
from holdfast.training.events import (
    CheckpointSaved,
    EpochDone,
    Evaluating,
    Measured,
    Resumed,
    RunFinished,
    RunStarted,
    SetupStarted,
    StepDone,
    StoppedEarly,
)

START = RunStarted(
    run="runs/a",
    model="timm:resnet18",
    method="plain+adarand",
    classes=10,
    n_train=800,
    n_val=90,
    n_test=0,
    parameters=11_200_000,
    device="cpu",
    total_epochs=3,
    steps_per_epoch=13,
    notes=("head dropout 0.2 is switched off",),
)


def row(epoch, accuracy, loss=0.5):
    return {
        "epoch": epoch,
        "step": 13 * epoch,
        "lr": 0.01,
        "loss": loss,
        "train_accuracy": 0.912,
        "val_accuracy": accuracy,
        "seconds": 30.0,
    }


def steps(epoch):
    return [StepDone(epoch, step, 13, 2.5 if step % 5 == 0 else None) for step in range(1, 14)]


def test_without_a_terminal_an_epoch_is_one_line(capsys):
    events = [START, SetupStarted("adarand")]
    for epoch, accuracy in ((1, 0.7), (2, 0.8), (3, 0.75)):
        events += [*steps(epoch), Evaluating("val"), EpochDone(epoch, 3, row(epoch, accuracy)), CheckpointSaved("runs/a/checkpoint", 13)]
    with progress() as listener:
        for event in [*events, RunFinished("runs/a", {})]:
            listener(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "timm:resnet18 (11.2 M parameters) with plain+adarand, on cpu",
        "10 classes; 800 train, 90 val, no test; 3 epochs of 13 steps",
        "run directory: runs/a",
        "note: head dropout 0.2 is switched off",
        "adarand: looking at the pretrained features",
        "epoch 1/3  loss 0.5000  train 91.2 %  val 70.0 % (best 70.0 % in epoch 1)  lr 0.01  30 s  1 min 00 s left",
        "epoch 2/3  loss 0.5000  train 91.2 %  val 80.0 % (best 80.0 % in epoch 2)  lr 0.01  30 s  30 s left",
        "epoch 3/3  loss 0.5000  train 91.2 %  val 75.0 % (best 80.0 % in epoch 2)  lr 0.01  30 s",
    ]


def test_what_is_not_known_is_left_out(capsys):
    with progress() as listener:
        listener(EpochDone(2, 3, {"epoch": 2, "loss": float("nan"), "val_accuracy": None, "seconds": None}))
    assert capsys.readouterr().err == "epoch 2/3  loss -  train -  0.0 s\n"


def test_a_resumed_run_remembers_its_best_epoch(capsys, tmp_path):
    run = Run.create(tmp_path / "a", {})
    for epoch, accuracy in ((1, 0.7), (2, 0.8)):
        run.append_history(row(epoch, accuracy))
    with progress() as listener:
        listener(Resumed(str(run.path), 2, 26))
        listener(EpochDone(3, 3, row(3, 0.75)))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "resumed in epoch 3, after 26 steps"
    assert "val 75.0 % (best 80.0 % in epoch 2)" in second


def test_what_is_tracked_is_a_line_of_its_own_in_a_log(capsys):
    with progress() as listener:
        listener(Measured("features", 2, 26, {"examples": 800, "feature_norm": 13.00512, "entropy": None}))
    assert capsys.readouterr().err == "  features after epoch 2  examples 800  feature norm 13.01\n"


def test_the_average_of_the_weights_has_a_best_epoch_of_its_own(capsys, tmp_path):
    run = Run.create(tmp_path / "a", {})
    run.append_history({**row(1, 0.7), "ema_val_accuracy": 0.9})
    with progress() as listener:
        listener(Resumed(str(run.path), 1, 13))
        listener(EpochDone(2, 3, {**row(2, 0.8), "ema_val_accuracy": 0.75}))
    line = capsys.readouterr().err.splitlines()[-1]
    assert "val 80.0 % (best 80.0 % in epoch 2)  averaged 75.0 % (best 90.0 % in epoch 1)  lr" in line


def test_an_early_stop_says_why(capsys):
    with progress() as listener:
        listener(StoppedEarly(7, 30, "val-loss", 4))
    assert capsys.readouterr().err == "stopped after epoch 7 of 30: val-loss has not become better since epoch 4\n"


def test_quiet_shows_nothing(capsys):
    with progress(quiet=True) as listener:
        for event in (START, *steps(1), EpochDone(1, 3, row(1, 0.5))):
            listener(event)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 100 columns, as the text that reaches it, and a clock that stands still."""
    text = io.StringIO()
    monkeypatch.setattr(module, "err", Console(file=text, force_terminal=True, width=100, highlight=False, markup=False))
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return text, clock


def test_on_a_terminal_the_bar_shows_epoch_loss_and_best(terminal):
    text, clock = terminal
    with progress() as listener:
        for event in (START, *steps(1), EpochDone(1, 3, row(1, 0.7)), EpochDone(2, 3, row(2, 0.65))):
            clock[0] += 1
            listener(event)
    shown = text.getvalue()
    assert "epoch 2/3" in shown
    assert "loss 2.500" in shown
    assert "val 65.0 %, best 70.0 %" in shown


def test_the_bar_shows_the_average_and_ends_full_at_an_early_stop(terminal):
    text, clock = terminal
    with progress() as listener:
        for event in (START, *steps(1), EpochDone(1, 3, {**row(1, 0.7), "ema_val_accuracy": 0.72})):
            clock[0] += 1
            listener(event)
        assert "val 70.0 %, best 70.0 %  averaged 72.0 %" in text.getvalue()
        listener(StoppedEarly(1, 3, "val-accuracy", 1))
        listener(RunFinished("runs/a", {}))
    assert "stopped after epoch 1 of 3" in text.getvalue()
    assert "100%" in text.getvalue()


def test_the_bar_is_drawn_at_most_four_times_a_second(terminal):
    text, clock = terminal
    with progress() as listener:
        listener(START)
        before = len(text.getvalue())
        for number, event in enumerate(steps(1) * 100):
            clock[0] = 10 + number / 1000  # 1300 steps in 1.3 seconds
            listener(event)
        drawings = text.getvalue()[before:].count("epoch 1/3")
    assert 4 <= drawings <= 7


def test_an_error_leaves_the_terminal_in_order(terminal):
    text, _ = terminal

    def fail():
        with progress() as listener:
            listener(START)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert text.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
