"""What stored predictions say of a split: accuracy by class, confusions, and whether confidence keeps its word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from holdfast.run import Predictions

__all__ = ["Bin", "Confusion", "Scores", "expected_error", "wilson"]

BINS = 15
"""As many as the expected calibration error of ``result.json`` has."""

DRAWS = 200
BLOCK = 8192
"""Rows whose probabilities are in memory at a time."""


class Bin(NamedTuple):
    """Predictions whose confidence lies above ``low`` and up to ``high``: how many, their mean confidence, their accuracy."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class Confusion(NamedTuple):
    """How many examples of class ``true`` are taken for class ``predicted``."""

    true: int
    predicted: int
    n: int


@dataclass(frozen=True)
class Scores:
    """Predictions of a split of N examples.

    Args:
        split: Its name.
        classes: K, the number of classes.
        labels: True classes (N,).
        predicted: Classes with the largest probability (N,).
        confidence: That probability (N,).
        losses: Negative log-likelihood of the true class in nats (N,).
        left_out: Further examples, with logits that are not finite or a label outside the classes.
    """

    split: str
    classes: int
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    losses: NDArray[np.float64]
    left_out: int

    @classmethod
    def of(cls, split: str, predictions: Predictions, classes: int) -> Scores | None:
        """From stored predictions; None where no row can be used. Outputs beyond the classes, such as one for abstaining, are cut."""
        logits, labels = np.asarray(predictions.logits), np.asarray(predictions.labels)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            return None
        logits = logits[:, : classes or None]
        usable = np.isfinite(logits).all(axis=1) & (labels >= 0) & (labels < logits.shape[1])
        if not usable.any():
            return None
        kept = labels[usable].astype(np.int64)
        parts = [_judge(logits[rows], labels[rows]) for rows in np.array_split(np.flatnonzero(usable), -(-len(kept) // BLOCK))]
        predicted, confidence, losses = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(split, logits.shape[1], kept, predicted, confidence, losses, int((~usable).sum()))

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.labels)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the predicted class is the right one."""
        return self.predicted == self.labels

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Counts (K, K), rows by true class, columns by predicted class."""
        counts = np.zeros((self.classes, self.classes), dtype=np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    def by_class(self) -> list[tuple[int, int]]:
        """For each class, how many of its examples are right, and how many there are."""
        right = np.bincount(self.labels[self.correct], minlength=self.classes)
        return list(zip(right.tolist(), np.bincount(self.labels, minlength=self.classes).tolist(), strict=True))

    def confusions(self, most: int) -> list[Confusion]:
        """The pairs of classes that are mixed up most often, the most frequent first."""
        wrong = ~self.correct
        pairs, counts = np.unique(np.stack([self.labels[wrong], self.predicted[wrong]], axis=1), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]
        return [Confusion(int(pairs[at][0]), int(pairs[at][1]), int(counts[at])) for at in order]

    def bins(self) -> list[Bin]:
        """Predictions by confidence, in bins of equal width."""
        found, place = [], self._places()
        for number in range(BINS):
            inside = place == number
            n = int(inside.sum())
            means = (float(self.confidence[inside].mean()), float(self.correct[inside].mean())) if n else (None, None)
            found.append(Bin(number / BINS, (number + 1) / BINS, n, *means))
        return found

    def log_loss(self) -> tuple[float, float | None]:
        """Mean negative log-likelihood in nats, and its standard error."""
        return float(self.losses.mean()), float(self.losses.std(ddof=1) / math.sqrt(self.n)) if self.n > 1 else None

    def chance_error(self) -> float:
        """The calibration error that so few examples show on average when every confidence is exactly right."""
        generator, place = np.random.default_rng(0), self._places()
        claimed = np.bincount(place, self.confidence, BINS)
        draws = [np.bincount(place, generator.random(self.n) < self.confidence, BINS) for _ in range(DRAWS)]
        return float(np.mean([np.abs(right - claimed).sum() / self.n for right in draws]))

    def _places(self) -> NDArray[np.int64]:
        """The bin of each example; a confidence on a border belongs to the lower one."""
        return np.clip(np.ceil(self.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _judge(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Predicted class, its probability and the loss of each row."""
    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    log_norm = np.log(np.exp(centred).sum(axis=1))
    return centred.argmax(axis=1).astype(np.int64), np.exp(-log_norm), log_norm - centred[np.arange(len(labels)), labels]


def expected_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error: the mean distance of confidence and accuracy, weighted by the size of the bins."""
    filled = [
        (entry.n, abs(entry.confidence - entry.accuracy)) for entry in bins if entry.confidence is not None and entry.accuracy is not None
    ]
    total = sum(n for n, _ in filled)
    return sum(n * gap for n, gap in filled) / total if total else None


def wilson(right: float, n: int) -> tuple[float, float] | None:
    """The 95 % interval of Wilson for a share of ``right`` in ``n``; None for no examples.

    Example:
        >>> [round(end, 4) for end in wilson(125, 153)]
        [0.7482, 0.8702]
    """
    if n <= 0:
        return None
    z = 1.959963984540054
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
