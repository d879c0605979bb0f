"""Kinds of arrays in this room, and what is refused where they enter."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import DataError, ShapeError

__all__ = ["ABSTAIN", "FloatArray", "IntArray", "MaskArray", "check_label_array", "check_probabilities", "check_votes"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
MaskArray = NDArray[np.bool_]

ABSTAIN = -1
"""Stands in a vote matrix, and among hard labels, where there is no vote."""


def check_label_array(labels: Any, num_classes: int, *, name: str = "labels") -> IntArray:
    """Classes (N,) as int64.

    Raises:
        ShapeError: It is no vector of integers.
        DataError: A class is not in ``0 .. num_classes - 1``.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise ShapeError(f"{name} must be integer classes (N,), got {found.dtype} {found.shape}.")
    bad = np.flatnonzero((found < 0) | (found >= num_classes))
    if len(bad):
        raise DataError(f"{name}: entry {bad[0]} is class {found[bad[0]]}; expected classes from 0 to {num_classes - 1}.")
    return cast(IntArray, found.astype(np.int64))


def check_probabilities(probs: Any, *, name: str = "probs", rows: int | None = None) -> FloatArray:
    """Rows of probabilities (N, K) as float64.

    Raises:
        ShapeError: It is no such matrix, or has another number of rows.
        DataError: A row does not sum to 1 or has an entry that is negative or not finite.
    """
    found = np.asarray(probs)
    if found.ndim != 2 or found.shape[1] < 2 or not len(found) or not np.issubdtype(found.dtype, np.floating):
        raise ShapeError(f"{name} must be probabilities (N, K) of at least 2 classes, got {found.dtype} {found.shape}.")
    if rows is not None and len(found) != rows:
        raise ShapeError(f"{name} must have a row for each of the {rows} labels, got {len(found)}.")
    wrong = ~(np.isfinite(found).all(axis=1) & (found >= 0).all(axis=1) & (np.abs(found.sum(axis=1) - 1) < 1e-4))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{name}: row {row} is no distribution (it sums to {found[row].sum():.6g}); give probabilities, not logits.")
    return cast(FloatArray, found.astype(np.float64))


def check_votes(votes: Any, num_classes: int, *, name: str = "votes") -> IntArray:
    """A vote matrix (N, M) as int64: classes, and -1 for an abstention.

    Raises:
        ShapeError: It is no matrix of integers, or has no column.
        DataError: A vote is for an unknown class.
    """
    found = np.asarray(votes)
    if found.ndim != 2 or not found.shape[1] or not np.issubdtype(found.dtype, np.integer):
        raise ShapeError(f"{name} must be integers (N, M), a column for each voter, got {found.dtype} {found.shape}.")
    bad = np.argwhere((found < ABSTAIN) | (found >= num_classes))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{name}: voter {column} gives item {row} the class {found[row, column]}; expected classes from 0 to {num_classes - 1}, "
            "or -1 for no vote."
        )
    return cast(IntArray, found.astype(np.int64))
