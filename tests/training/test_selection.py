"""Which epoch's weights a run keeps, and when it looks at the test split."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import assert_same_tensors

from holdfast.data import RunData
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.training.events import EpochDone, Evaluating, Event
from holdfast.training.loop import Trainer
from holdfast.training.selection import Selection

Fit = Callable[..., Run]


def chosen(accuracies: list[float], losses: list[float]) -> tuple[int, int]:
    """Epochs chosen by accuracy and by loss."""
    selection = Selection()
    for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True), start=1):
        selection.offer(epoch, 10 * epoch, accuracy=accuracy, loss=loss)
    return selection.best["val-accuracy"].epoch, selection.best["val-loss"].epoch


def test_the_best_epoch_is_chosen_and_the_earliest_of_equal_ones() -> None:
    assert chosen([0.5, 0.7, 0.7, 0.6], [1.0, 0.9, 0.4, 0.4]) == (2, 3)


def test_a_loss_that_is_no_number_is_worse_than_any() -> None:
    assert chosen([0.5, 0.5, 0.5], [float("nan"), 3.0, float("nan")]) == (1, 2)


def test_weights_are_wanted_as_long_as_one_criterion_points_at_them() -> None:
    selection = Selection()
    wanted = []
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.0), (0.6, 2.0), (0.4, 0.5), (0.6, 0.5)], start=1):
        improved = selection.offer(epoch, epoch, accuracy=accuracy, loss=loss)
        wanted.append((improved, selection.epochs))
    assert wanted == [(True, {1}), (True, {1, 2}), (True, {2, 3}), (False, {2, 3})]


def test_a_further_criterion_has_a_best_epoch_of_its_own() -> None:
    selection = Selection()
    offered = [
        selection.offer(epoch, epoch, accuracy=0.5, loss=1.0, further={"val-corrected": value})
        for epoch, value in enumerate([-0.2, 1.1, 1.1], start=1)
    ]
    assert (selection.best["val-corrected"].epoch, offered) == (2, [True, True, False])
    assert selection.epochs == {1, 2}


def script_accuracies(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Selection is told these accuracies, epoch after epoch; the loss is as it is."""
    offer = Selection.offer

    def scripted(self: Selection, epoch: int, step: int, *, accuracy: float, loss: float, further: Mapping[str, float]) -> bool:
        return offer(self, epoch, step, accuracy=accuracies[epoch - 1], loss=loss, further=further)

    monkeypatch.setattr(Selection, "offer", scripted)


def keep_weights(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The network's weights after each epoch."""
    kept: list[dict[str, torch.Tensor]] = []
    end = Trainer._end_epoch

    def end_epoch(self: Trainer) -> None:
        kept.append({name: tensor.clone() for name, tensor in self.job.classifier.net.state_dict().items()})
        end(self)

    monkeypatch.setattr(Trainer, "_end_epoch", end_epoch)
    return kept


@pytest.mark.parametrize(("select", "epoch"), [("val-accuracy", 2), ("val-loss", None), ("last", 4)])
def test_select_keeps_the_weights_of_its_epoch(select: str, epoch: int | None, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    script_accuracies(monkeypatch, 0.2, 0.6, 0.6, 0.5)
    after = keep_weights(monkeypatch)
    run = fit(select=select, epochs=4, lr=0.1)
    by_loss = min(range(4), key=lambda row: run.history[row]["val_loss"]) + 1
    expected = by_loss if epoch is None else epoch
    assert_same_tensors(run.load_weights(), after[expected - 1])
    selections = {entry["by"]: (entry["epoch"], entry["step"]) for entry in run.result["selections"]}
    assert selections == {"last": (4, 12), "val-accuracy": (2, 6), "val-loss": (by_loss, 3 * by_loss)}
    assert run.result["selections"][0]["by"] == select  # the primary one comes first
    assert run.result["selections"][0]["by"] == select
    assert list(run.checkpoint_dir.glob("epoch-*")) == []


def test_without_validation_the_last_epoch_is_kept_and_said_so(
    images: Path, fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(images, tmp_path / "data", ignore=shutil.ignore_patterns("val"))
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        run = fit(data=tmp_path / "data", val_fraction=0.0)
    assert "there is no validation split, so the last epoch's weights are kept; type --select last" in caplog.text
    assert [entry["by"] for entry in run.result["selections"]] == ["last"]
    assert run.config["select"] == "last"
    assert run.val is None
    assert (run.test.n, run.result["data"]["n_val"]) == (9, 0)
    caplog.clear()
    fit("again", data=tmp_path / "data", val_fraction=0.0, select="last")
    assert "validation" not in caplog.text


def test_the_test_split_is_read_after_training_once_for_each_candidate(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    script_accuracies(monkeypatch, 0.2, 0.6, 0.5)
    happened: list[Any] = []
    real = RunData.batches

    def batches(self: RunData, split: str, **options: Any) -> Any:
        happened.append(split)
        return real(self, split, **options)

    def listen(event: Event) -> None:
        happened.extend(["epoch done"] * isinstance(event, EpochDone))
        happened.extend([f"says {event.split}"] if isinstance(event, Evaluating) else [])

    monkeypatch.setattr(RunData, "batches", batches)
    run = fit(epochs=3, listener=listen)
    last_epoch = len(happened) - happened[::-1].index("epoch done")
    assert "test" not in happened[:last_epoch]
    candidates = {entry["epoch"] for entry in run.result["selections"]}
    after = Counter(happened[last_epoch:])
    assert after == {
        split: n for name, n in (("test", len(candidates)), ("val", len(candidates)), ("train", 1)) for split in (name, f"says {name}")
    }


def test_the_best_epoch_by_test_is_kept_too_marked_and_never_first(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_test = Selection.offer_test
    accuracies = (0.1, 0.2, 0.9, 0.9)
    monkeypatch.setattr(
        Selection, "offer_test", lambda self, epoch, step, *, accuracy: offer_test(self, epoch, step, accuracy=accuracies[epoch - 1])
    )
    script_accuracies(monkeypatch, 0.6, 0.2, 0.3, 0.6)
    run = fit(epochs=4, lr=0.1, track="test")
    selections = {entry["by"]: entry for entry in run.result["selections"]}
    assert next(iter(selections)) == "val-accuracy"
    assert (selections["best-by-test"]["epoch"], selections["best-by-test"]["step"]) == (3, 9)
    assert {by: entry.get("optimistic", False) for by, entry in selections.items()} == {by: by == "best-by-test" for by in selections}
    row = run.history[2]
    assert selections["best-by-test"]["test"]["accuracy"] == pytest.approx(row["test_accuracy"])
    assert selections["best-by-test"]["val"]["loss"] == pytest.approx(row["val_loss"])


def test_tracking_the_test_split_changes_no_choice_but_its_own(fit: Fit) -> None:
    tracked, plain = fit("tracked", epochs=4, lr=0.1, track="test"), fit("plain", epochs=4, lr=0.1)
    assert_same_tensors(tracked.load_weights(), plain.load_weights())
    assert [entry for entry in tracked.result["selections"] if entry["by"] != "best-by-test"] == plain.result["selections"]
    assert tracked.result["test"] == plain.result["test"]


def test_the_test_split_is_opened_loudly_and_only_where_there_is_one(
    images: Path, fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        fit(track="test")
    assert "--track test opens the test split after every epoch" in caplog.text
    shutil.copytree(images, tmp_path / "data", ignore=shutil.ignore_patterns("test"))
    with pytest.raises(ConfigError, match="--track test: there is no test split in "):
        fit("none", data=tmp_path / "data", track="test")
    assert not (tmp_path / "none").exists()


def test_without_validation_the_best_epoch_by_test_is_still_known(images: Path, fit: Fit, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "data", ignore=shutil.ignore_patterns("val"))
    run = fit(data=tmp_path / "data", val_fraction=0.0, select="last", track="test")
    assert [entry["by"] for entry in run.result["selections"]] == ["last", "best-by-test"]
    assert "val_accuracy" not in run.history[0]


def test_with_an_average_its_test_accuracy_is_tracked_too(fit: Fit) -> None:
    run = fit(track="test", ema=0.5)
    assert {"test_accuracy", "test_loss", "ema_test_accuracy", "ema_test_loss"} <= set(run.history[0])
    assert [entry["weights"] for entry in run.result["selections"] if entry["by"] == "best-by-test"] == ["raw", "ema"]
