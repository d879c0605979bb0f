"""Losses and accuracies on training and held-out examples, and how well confidences match accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from holdfast.auditing.forward import Columns, pass_over
from holdfast.auditing.subject import Subject
from holdfast.training.evaluate import Predictions, measure

__all__ = ["Fit", "calibration_section", "gap_section", "measure_fit"]

BINS = 15
"""Bins of equal width in which confidences are compared with accuracies, as in ``result.json``."""


@dataclass(frozen=True)
class Fit:
    """How the network does on the training examples and on ``held_out`` ones, of the split of that name."""

    train: Columns
    held_out: Columns | None
    split: str | None

    @property
    def largest_loss(self) -> float:
        """The largest loss of an example that was seen."""
        return max(float(columns.losses.max()) for columns in (self.train, self.held_out) if columns is not None)


def measure_fit(subject: Subject, *, most: int, seed: int, batch_size: int | None) -> Fit:
    """Pass over the training examples, at most ``most`` of them drawn by ``seed``, and over all held-out ones."""
    ranks: dict[str, Any] = {"batch_size": batch_size, "rank": subject.comm.rank, "size": subject.comm.size, "device": subject.device}
    train = pass_over(subject, subject.data.sample("train", most, seed=seed, **ranks))
    split = subject.held_out
    return Fit(train, pass_over(subject, subject.data.batches(split, **ranks)) if split else None, split)


def gap_section(fit: Fit) -> dict[str, Any]:
    """The section ``gap``."""
    train, held_out = fit.train, fit.held_out
    train_loss = float(train.losses.double().mean())
    test_loss = None if held_out is None else float(held_out.losses.double().mean())
    return {
        "train_loss": train_loss,
        "test_loss": test_loss,
        "gap": None if test_loss is None else test_loss - train_loss,
        **_accuracy("train", train),
        **_accuracy("test", held_out),
        "split": fit.split,
        "largest_loss": fit.largest_loss,
    }


def _accuracy(name: str, columns: Columns | None) -> dict[str, Any]:
    known = measure(_predictions(columns)) if columns is not None and columns.classified else {}
    return {
        f"{name}_accuracy": known.get("accuracy"),
        f"{name}_accuracy_ci95": known.get("accuracy_ci95"),
        f"n_{name}": 0 if columns is None else len(columns.labels),
    }


def calibration_section(columns: Columns | None, split: str | None) -> dict[str, Any] | None:
    """The section ``calibration``, of the largest softmax probability of each held-out example."""
    if columns is None or not columns.classified:
        return None
    measured = measure(_predictions(columns))
    probs = columns.logits.double().softmax(dim=1)
    brier = float((probs - one_hot(columns.labels, probs.shape[1])).square().sum(dim=1).mean())
    return {
        "split": split,
        "n": len(columns.labels),
        "ece": measured["ece"],
        "nll": measured["nll"],
        "brier": brier,
        "bins": _bins(*(values.double() for values in (probs.max(dim=1).values, probs.argmax(dim=1) == columns.labels))),
    }


def _bins(confidence: Tensor, correct: Tensor) -> list[dict[str, Any]]:
    number = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    counts, confidences, hits = (
        torch.zeros(BINS, dtype=torch.float64).index_add_(0, number, values) for values in (torch.ones_like(correct), confidence, correct)
    )
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "n": int(count),
            "confidence": confident / count if count else None,
            "accuracy": right / count if count else None,
        }
        for place, (count, confident, right) in enumerate(zip(counts.tolist(), confidences.tolist(), hits.tolist(), strict=True))
    ]


def _predictions(columns: Columns) -> Predictions:
    return Predictions(columns.logits, columns.labels, torch.arange(len(columns.labels)))
