"""Early stopping: when, by which numbers, and what is said of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.training.small_runs import assert_same_run
from tests.training.test_selection import script_accuracies

import holdfast
from holdfast.errors import ConfigError, Interrupted
from holdfast.run import Run
from holdfast.training.events import EpochDone, Evaluating, Event, StepDone, StoppedEarly
from holdfast.training.selection import Selection

Fit = Callable[..., Run]


def test_ties_are_not_better() -> None:
    selection = Selection()
    waited = [selection.epochs_without_better("val-accuracy", 0)]
    for epoch, accuracy in enumerate([0.5, 0.5, 0.6, 0.6, 0.4], start=1):
        selection.offer(epoch, epoch, accuracy=accuracy, loss=1.0)
        waited.append(selection.epochs_without_better("val-accuracy", epoch))
    assert waited == [0, 0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("patience", "accuracies", "epochs"),
    [(2, (0.2, 0.6, 0.6, 0.5, 0.9), 4), (1, (0.2, 0.2, 0.9), 2), (3, (0.5, 0.4, 0.6, 0.5, 0.4), 5)],
    ids=["after two without better", "at the first tie", "never"],
)
def test_training_stops_where_patience_ends(
    patience: int, accuracies: tuple[float, ...], epochs: int, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_accuracies(monkeypatch, *accuracies)
    events: list[Event] = []
    run = fit(epochs=len(accuracies), patience=patience, listener=events.append)
    stopped = epochs < len(accuracies)
    best = accuracies.index(max(accuracies[:epochs])) + 1
    assert [row["epoch"] for row in run.history] == list(range(1, epochs + 1))
    assert run.result["training"] == {
        "epochs": epochs,
        "planned_epochs": len(accuracies),
        "stopped_early": stopped,
        "skipped_updates": 0,
    }
    assert [event for event in events if isinstance(event, StoppedEarly)] == [
        StoppedEarly(epochs, len(accuracies), "val-accuracy", best)
    ] * stopped
    last = next(entry for entry in run.result["selections"] if entry["by"] == "last")
    assert (last["epoch"], last["step"], run.result["cost"]["steps"]) == (epochs, 3 * epochs, 3 * epochs)
    assert run.result["selections"][0]["epoch"] == best


def test_the_schedule_still_spans_all_epochs(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    script_accuracies(monkeypatch, 0.5, 0.4, 0.4, 0.4)
    stopped, whole = fit("stopped", epochs=4, patience=1), fit("whole", epochs=4)
    assert [row["lr"] for row in stopped.history] == [row["lr"] for row in whole.history][:2]


def test_loss_is_watched_where_it_selects(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    script_accuracies(monkeypatch, 0.5, 0.4, 0.3, 0.2)
    run = fit(epochs=4, patience=1, select="val-loss", lr=3e-3)
    losses = [row["val_loss"] for row in run.history]
    assert losses == sorted(losses, reverse=True)  # it falls at this rate, while the accuracies would have stopped the run
    assert len(losses) == 4


@pytest.mark.parametrize(("select_weights", "epochs"), [("ema", 4), ("raw", 2)])
def test_the_weights_that_are_kept_decide(select_weights: str, epochs: int, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[float] = []
    offer = Selection.offer

    def scripted(self: Selection, epoch: int, step: int, *, accuracy: float, loss: float, further: Mapping[str, float]) -> bool:
        offered.append(accuracy)
        # The average, which is offered second, gets better in every epoch, the trained weights in none.
        return offer(self, epoch, step, accuracy=0.5 if len(offered) % 2 else 0.1 * epoch, loss=loss, further=further)

    monkeypatch.setattr(Selection, "offer", scripted)
    run = fit(epochs=4, patience=1, ema=0.5, select_weights=select_weights)
    assert len(run.history) == epochs


def test_a_run_that_has_stopped_stays_so_when_it_is_resumed(fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script_accuracies(monkeypatch, 0.5, 0.4, 0.4, 0.9)
    undisturbed = fit("undisturbed", epochs=4, patience=2)

    def stop(event: Event) -> None:
        if isinstance(event, EpochDone) and event.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="after step 9;"):
        fit(epochs=4, patience=2, listener=stop)
    events: list[Event] = []
    resumed = holdfast.fit(resume=tmp_path / "run", listener=events.append)
    assert not any(isinstance(event, StepDone) for event in events)
    assert any(isinstance(event, StoppedEarly) for event in events)
    assert any(isinstance(event, Evaluating) and event.split == "test" for event in events)
    assert_same_run(resumed, undisturbed)


def test_patience_without_validation_is_refused_before_anything_is_written(images: Path, fit: Fit, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "data", ignore=shutil.ignore_patterns("val"))
    with pytest.raises(ConfigError, match=r"^--patience 2: there is no validation split .* give --val-fraction"):
        fit(data=tmp_path / "data", val_fraction=0.0, patience=2)
    assert not (tmp_path / "run").exists()
