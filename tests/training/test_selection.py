"""Which epoch's weights a run keeps, and when it looks at the test split."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import assert_same_tensors

from holdfast.data import ImageData
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


def script_accuracies(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Selection is told these accuracies, epoch after epoch; the loss is as it is."""
    offer = Selection.offer

    def scripted(self: Selection, epoch: int, step: int, *, accuracy: float, loss: float) -> bool:
        return offer(self, epoch, step, accuracy=accuracies[epoch - 1], loss=loss)

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
    real = ImageData.batches

    def batches(self: ImageData, split: str, **options: Any) -> Any:
        happened.append(split)
        return real(self, split, **options)

    def listen(event: Event) -> None:
        happened.extend(["epoch done"] * isinstance(event, EpochDone))
        happened.extend([f"says {event.split}"] if isinstance(event, Evaluating) else [])

    monkeypatch.setattr(ImageData, "batches", batches)
    run = fit(epochs=3, listener=listen)
    last_epoch = len(happened) - happened[::-1].index("epoch done")
    assert "test" not in happened[:last_epoch]
    candidates = {entry["epoch"] for entry in run.result["selections"]}
    after = Counter(happened[last_epoch:])
    assert after == {
        split: n for name, n in (("test", len(candidates)), ("val", len(candidates)), ("train", 1)) for split in (name, f"says {name}")
    }
