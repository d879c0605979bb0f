"""What a matrix of votes looks like: how much each voter covers, meets others, contradicts them, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.errors import ShapeError
from holdfast.labels.arrays import ABSTAIN, FloatArray, IntArray, check_votes

__all__ = ["VoteStatistics", "vote_counts", "vote_statistics"]


@dataclass(frozen=True)
class VoteStatistics:
    """One entry for each of M voters.

    Args:
        coverage: Share (M,) of all items it votes on.
        overlap: Share (M,) of all items it votes on together with another.
        conflict: Share (M,) of all items on which another votes differently.
        polarity: The classes it ever votes for.
        accuracy: Share (M,) of its votes that are right, over the items whose truth is known; NaN where there is none.
        judged: How many (M,) of its votes that is.
    """

    coverage: FloatArray
    overlap: FloatArray
    conflict: FloatArray
    polarity: tuple[tuple[int, ...], ...]
    accuracy: FloatArray
    judged: IntArray


def vote_counts(votes: Any, num_classes: int, *, weights: FloatArray | None = None) -> FloatArray:
    """How many voters chose each class, abstentions left out.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        num_classes: K.
        weights: What a vote of each voter counts (M,); 1 by default.

    Returns:
        (N, K).
    """
    found = check_votes(votes, num_classes)
    weight = np.ones(found.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (found.shape[1],):
        raise ShapeError(f"weights must be ({found.shape[1]},), one for each voter, got {weight.shape}.")
    return np.stack([(found == k) @ weight for k in range(num_classes)], axis=1)


def vote_statistics(votes: Any, num_classes: int, *, true_labels: IntArray | None = None) -> VoteStatistics:
    """Coverage, overlap, conflict, polarity and accuracy of each voter.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        num_classes: K.
        true_labels: Known truth (N,), -1 where it is not known.
    """
    found = check_votes(votes, num_classes)
    given = found != ABSTAIN
    counts = vote_counts(found, num_classes)
    total = counts.sum(axis=1)
    same = np.where(given, np.take_along_axis(counts, np.where(given, found, 0), axis=1), 0)
    truth = np.full(len(found), ABSTAIN) if true_labels is None else np.asarray(true_labels)
    judged = given & (truth != ABSTAIN)[:, None]
    number = judged.sum(axis=0)
    right = (judged & (found == truth[:, None])).sum(axis=0)
    return VoteStatistics(
        coverage=given.mean(axis=0),
        overlap=(given & (total[:, None] > 1)).mean(axis=0),
        conflict=(given & (total[:, None] > same)).mean(axis=0),
        polarity=tuple(tuple(np.unique(column[column != ABSTAIN]).tolist()) for column in found.T),
        accuracy=np.where(number > 0, right / np.maximum(number, 1), np.nan),
        judged=number.astype(np.int64),
    )
