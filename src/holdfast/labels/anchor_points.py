"""Transition matrices from what a model trained on the wrong labels predicts: anchor points, and Dual-T built on them."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, cast

import numpy as np

from holdfast.errors import ConfigError
from holdfast.labels.arrays import FloatArray, IntArray, MaskArray, check_label_array, check_probabilities

__all__ = ["PERCENTILE", "Anchors", "DualT", "anchors", "drop_outliers", "dual_t", "normalised_rows", "predicted_observed_counts"]

log = logging.getLogger("holdfast")

PERCENTILE = 97.0


class Anchors(NamedTuple):
    """Anchor points.

    Args:
        transition: F (K, K), rows normalised.
        examples: The best example (K,) of each class.
        rows: What was read there (K, K), before normalisation.
    """

    transition: FloatArray
    examples: IntArray
    rows: FloatArray


class DualT(NamedTuple):
    """The two factors and their product.

    Args:
        transition: F (K, K), rows normalised.
        club: P(predicted | true) (K, K), from anchors.
        spade: P(observed | predicted) (K, K), from counts; the identity's row for a class that is never predicted.
        counts: How often (K, K) each class was predicted and each observed.
    """

    transition: FloatArray
    club: FloatArray
    spade: FloatArray
    counts: IntArray


def anchors(probs: Any, *, percentile: float | None = PERCENTILE, top_m: int = 1) -> Anchors:
    """Take the example most surely of a class as one of that class, and its noisy-class probabilities as the row of F.

    Patrini et al., CVPR 2017. Works on a copy, unlike the code of Ju et al., which :func:`holdfast.labels.ju2022.released_dual_t` repeats.

    Args:
        probs: Noisy-class probabilities (N, K), out of sample.
        percentile: Examples at or above it are outliers and do not serve; None for the largest of all.
        top_m: How many of the best examples are averaged.

    Raises:
        ConfigError: An option is out of its range.
    """
    table = check_probabilities(probs)
    if percentile is not None and not 0 < percentile <= 100:
        raise ConfigError(f"percentile: expected a number above 0 and at most 100, or none, got {percentile:g}.")
    if not 1 <= top_m <= len(table):
        raise ConfigError(f"top_m: expected a whole number from 1 to {len(table)}, the number of examples, got {top_m}.")
    classes = table.shape[1]
    rows, index = np.empty((classes, classes)), np.empty(classes, dtype=np.int64)
    for k in range(classes):
        scores = table[:, k] if percentile is None else np.where(drop_outliers(table[:, k], percentile), 0.0, table[:, k])
        best = scores.argsort(kind="stable")[::-1][:top_m] if top_m > 1 else [int(scores.argmax())]
        index[k], rows[k] = scores.argmax(), table[best].mean(axis=0)
    return Anchors(normalised_rows(rows), index, rows)


def drop_outliers(column: FloatArray, percentile: float) -> MaskArray:
    """Which of the values (N,) are at or above the percentile, which is itself one of the values, the higher of two neighbours."""
    return column >= np.percentile(column, percentile, method="higher")


def dual_t(probs: Any, labels: Any, *, percentile: float | None = PERCENTILE, top_m: int = 1) -> DualT:
    """Split F at the predicted class: true to predicted by anchors, predicted to observed by counts.

    Yao et al., NeurIPS 2020. Made for overconfident networks, for which anchors say that there is no noise. Where probabilities are well
    calibrated to the noisy labels, both factors are near F and the product is near ``F @ F``: too much noise.

    Args:
        probs: Noisy-class probabilities (N, K).
        labels: Observed classes (N,).
        percentile: As in :func:`anchors`.
        top_m: As in :func:`anchors`.
    """
    table = check_probabilities(probs)
    club = anchors(table, percentile=percentile, top_m=top_m).transition
    counts = predicted_observed_counts(table, labels)
    missing = np.flatnonzero(counts.sum(axis=1) == 0)
    if len(missing):
        log.warning("dual-t: class %d is never predicted%s, so it is taken as observed without error", missing[0], _others(missing))
    spade = np.where(counts.sum(axis=1, keepdims=True) > 0, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.eye(len(counts)))
    return DualT(normalised_rows(club @ spade), club, spade, counts)


def predicted_observed_counts(probs: FloatArray, labels: Any) -> IntArray:
    """How often (K, K) each class is the most probable, by row, and each is observed, by column."""
    counts = np.zeros((probs.shape[1],) * 2, dtype=np.int64)
    np.add.at(counts, (probs.argmax(axis=1), check_label_array(labels, probs.shape[1])), 1)
    return counts


def normalised_rows(matrix: FloatArray) -> FloatArray:
    """Entries clipped to [0, 1] and divided by the sum of their row."""
    clipped = np.clip(matrix, 0, 1)
    return cast(FloatArray, clipped / clipped.sum(axis=1, keepdims=True))


def _others(found: IntArray) -> str:
    return f", nor are {len(found) - 1} others" if len(found) > 1 else ""
