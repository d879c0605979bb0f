"""How examples are taken away from others at random: class by class, uniformly, or in whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.data.groups import spread_groups
from holdfast.data.keyed import example_keys, permutation
from holdfast.data.source import IntArray, Listing

__all__ = ["Cutter", "largest_remainder", "rank_in_class"]


def largest_remainder(counts: IntArray, seats: int) -> IntArray:
    """Share out ``seats`` in proportion to ``counts``, leaving at least one of each count.

    Each class gets the whole part of its quota ``counts * seats / sum(counts)``; what is left goes to the largest remainders, the first
    class first among equals.

    Args:
        counts: Examples (K,) of each class.
        seats: How many to take in all.

    Returns:
        How many to take (K,) of each class; fewer than ``seats`` in all where the classes cannot spare them.

    Example:
        >>> largest_remainder(np.array([10, 7, 3]), 4)
        array([2, 1, 1])
    """
    if not counts.sum():
        return np.zeros_like(counts)
    quotas, remainders = np.divmod(counts * seats, counts.sum())  # whole numbers, so that no rounding decides
    spare = np.maximum(counts - 1, 0)
    taken = np.minimum(quotas, spare)
    order = np.argsort(-remainders, kind="stable")
    while (left := seats - int(taken.sum())) > 0 and np.any(taken < spare):
        roomy = order[taken[order] < spare[order]]
        taken[roomy[:left]] += 1
    return taken


@dataclass(frozen=True)
class Cutter:
    """Takes random rows away from others; each draw is a function of ids, labels, groups and the seed.

    Args:
        listing: All examples.
        how: ``stratified`` or ``paper`` (uniformly at random).
        seed: The data seed.
        groups: Group of each example, which is never cut through; None where every example stands for itself.
    """

    listing: Listing
    how: str
    seed: int
    groups: Sequence[str] | None = None

    def take(self, rows: IntArray, seats: int, stream: str) -> tuple[IntArray, IntArray]:
        """About ``seats`` of ``rows`` (exactly so many where groups and classes allow), and the rest; both sorted.

        Unless cut uniformly, no class loses its last example.
        """
        if self.groups is None:
            return self.take_examples(rows, seats, stream)
        seats = min(seats, len(rows) - 1)
        if seats < 1:
            return rows[:0], rows
        taken = self._spread(rows, np.array([seats, len(rows) - seats]) / len(rows), stream, keep_classes=self.how != "paper") == 0
        return rows[taken], rows[~taken]

    def take_examples(self, rows: IntArray, seats: int, stream: str) -> tuple[IntArray, IntArray]:
        """:meth:`take` without regard to groups."""
        order = self._shuffled(rows, stream)
        if self.how == "paper":
            chosen = np.arange(len(order)) < seats
        else:
            labels = self.listing.labels[order]
            chosen = rank_in_class(labels) < largest_remainder(self._class_counts(labels), seats)[labels]
        return np.sort(order[chosen]), np.sort(order[~chosen])

    def share(self, rows: IntArray, fraction: float) -> IntArray:
        """A part of ``rows``, sorted; a smaller fraction gives a part of it, up to the rounding of largest remainders.

        Uniformly, these are the first ``int(fraction * N)`` of a fixed order, as in the paper's protocol; else the nearest whole
        number, of each class at least one.
        """
        seats = int(fraction * len(rows)) if self.how == "paper" else int(fraction * len(rows) + 0.5)
        order = self._shuffled(rows, "train fraction")
        if self.how == "paper":
            return np.sort(order[:seats])
        labels = self.listing.labels[order]
        counts = self._class_counts(labels)
        return np.sort(order[rank_in_class(labels) < (counts - largest_remainder(counts, len(rows) - seats))[labels]])

    def folds(self, rows: IntArray, count: int, stream: str = "folds") -> IntArray:
        """The fold (N,) of each row, from 0 to ``count - 1``; none is empty where there are so many rows or groups.

        Without groups, the sizes of two folds differ by one at most, and so do those of each class in them, unless cut uniformly.
        """
        if self.groups is not None:
            return self._spread(rows, np.full(count, 1 / count), stream, keep_classes=False)
        order = permutation(stream, self.seed, 0, example_keys(self.listing.ids[row] for row in rows))
        if self.how != "paper":
            order = order[np.argsort(self.listing.labels[rows[order]], kind="stable")]
        folds = np.empty(len(rows), dtype=np.int64)
        folds[order] = np.arange(len(rows)) % count
        return folds

    def keep_shots(self, rows: IntArray, shots: int) -> IntArray:
        """The first ``shots`` of a fixed random order of each class, sorted; fewer shots are a part of more."""
        order = self._shuffled(rows, "shots")
        return np.sort(order[rank_in_class(self.listing.labels[order]) < shots])

    @property
    def words(self) -> str:
        """The way of cutting, for the record."""
        how = "uniformly at random" if self.how == "paper" else "class by class, largest remainder"
        if self.groups is not None:
            how = "whole groups, uniformly at random" if self.how == "paper" else "whole groups, classes as even as they allow"
        return f"{how}, data seed {self.seed}"

    def _shuffled(self, rows: IntArray, stream: str) -> IntArray:
        return rows[permutation(stream, self.seed, 0, example_keys(self.listing.ids[row] for row in rows))]

    def _class_counts(self, labels: IntArray) -> IntArray:
        return np.bincount(labels, minlength=len(self.listing.classes))

    def _spread(self, rows: IntArray, shares: np.ndarray, stream: str, *, keep_classes: bool) -> IntArray:
        assert self.groups is not None
        names, members = np.unique([self.groups[row] for row in rows], return_inverse=True)
        labels = np.zeros(len(rows), dtype=np.int64) if self.how == "paper" else self.listing.labels[rows]
        order = permutation(stream, self.seed, 0, example_keys(names.tolist()))
        return spread_groups(members, labels, order, shares, keep_classes=keep_classes)[members]


def rank_in_class(labels: IntArray) -> IntArray:
    """How many earlier entries have the same label, for each entry."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.searchsorted(ordered, ordered)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks
