"""Majority vote: the class most voters chose, and what to do about ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from holdfast.errors import ConfigError, ShapeError, suggest
from holdfast.labels.arrays import ABSTAIN, FloatArray, IntArray
from holdfast.labels.votes import vote_counts, vote_statistics

__all__ = ["TIES", "accuracy_weights", "hard_labels", "majority_probabilities", "majority_vote"]

TIES = ("abstain", "lowest", "random", "prior")
"""What becomes of a tie: no label, the lowest class, one drawn with a seed, the class that is more frequent."""


def majority_probabilities(votes: Any, num_classes: int, *, weights: FloatArray | None = None) -> FloatArray:
    """Shares of the votes (N, K) that each class received; uniform where there is no vote.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        num_classes: K.
        weights: What a vote of each voter counts (M,), at least 0; 1 by default.
    """
    counts = vote_counts(votes, num_classes, weights=weights)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1), 1 / num_classes)


def accuracy_weights(votes: Any, true_labels: Any, num_classes: int) -> FloatArray:
    """What a vote of each voter should count (M,), from its accuracy a on items with known truth: log((K - 1) a / (1 - a)), at least 0.

    These weights are best for voters that err independently and evenly. Two more items that are right as often as by chance are added to
    those of each voter, so that nobody is perfect and few items do not weigh much.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        true_labels: Known classes (N,).
        num_classes: K.
    """
    statistics = vote_statistics(votes, num_classes, true_labels=np.asarray(true_labels))
    right = np.nan_to_num(statistics.accuracy) * statistics.judged
    accuracy = (right + 2 / num_classes) / (statistics.judged + 2)
    return np.maximum(np.log((num_classes - 1) * accuracy / (1 - accuracy)), 0.0)


def majority_vote(
    votes: Any,
    num_classes: int,
    *,
    ties: str = "abstain",
    weights: FloatArray | None = None,
    prior: FloatArray | None = None,
    seed: int = 0,
) -> IntArray:
    """The class with most votes (N,); -1 without a vote.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        num_classes: K.
        ties: ``abstain`` (-1), ``lowest`` class, ``random`` by ``seed``, or ``prior``: the tied class with the larger prior.
        weights: What a vote of each voter counts (M,); 1 by default.
        prior: Probability of each class (K,) for ``prior``; the shares of the classes among all votes by default.
        seed: Seed of ``random``.

    Raises:
        ConfigError: The rule for ties is unknown.
    """
    counts = vote_counts(votes, num_classes, weights=weights)
    return hard_labels(counts, ties=ties, prior=prior, seed=seed)


def hard_labels(scores: FloatArray, *, ties: str = "abstain", prior: FloatArray | None = None, seed: int = 0) -> IntArray:
    """The class with the largest score of each row (N,); -1 where a row is 0 throughout.

    Scores that differ by rounding alone, a millionth of a millionth of the largest, are tied. Arguments as :func:`majority_vote`.
    """
    if ties not in TIES:
        raise ConfigError(f"ties: unknown rule {ties!r}. {suggest(ties, TIES)}")
    best = scores.max(axis=1, keepdims=True)
    tied = scores >= best * (1 - 1e-12)
    chosen = tied.argmax(axis=1)
    several = tied.sum(axis=1) > 1
    if ties == "abstain":
        chosen[several] = ABSTAIN
    elif ties == "random":
        draws = np.random.default_rng(seed).random(scores.shape)  # for all entries, so that a row's draw depends on its place alone
        chosen[several] = np.where(tied, draws, -1.0).argmax(axis=1)[several]
    elif ties == "prior":
        share = scores.sum(axis=0) if prior is None else np.asarray(prior, dtype=np.float64)
        if share.shape != (scores.shape[1],):
            raise ShapeError(f"prior must be ({scores.shape[1]},), one for each class, got {share.shape}.")
        chosen[several] = np.where(tied, share, -1.0).argmax(axis=1)[several]
    chosen[best[:, 0] <= 0] = ABSTAIN
    return chosen.astype(np.int64)
