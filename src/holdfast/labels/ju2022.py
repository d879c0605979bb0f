"""What the code released with Ju, Li and Zhang (ICML 2022) does to labels and estimates, for reproduction alone.

Two habits differ from ours. Its symmetric noise draws the replacement from all classes, so a rate of 0.6 with ten classes corrupts 54 %.
Its anchors filter the table of probabilities in place, so rows that are read for later classes have holes and do not sum to 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from holdfast.labels.anchor_points import PERCENTILE, drop_outliers, predicted_observed_counts
from holdfast.labels.arrays import FloatArray, IntArray, check_label_array
from holdfast.labels.injection import Injected, chosen_rows, class_prior
from holdfast.labels.transition import symmetric

__all__ = ["ReleasedDualT", "released_dual_t", "released_noise"]


def released_noise(
    labels: Any, num_classes: int, rate: float, *, asymmetric: bool = False, seed: int = 0, rows: IntArray | None = None
) -> Injected:
    """The release's noise, draw by draw: NumPy's legacy generator, ``int(rate · n)`` labels replaced.

    Args:
        labels: True classes (N,).
        num_classes: K.
        rate: Share of the labels that is drawn anew.
        asymmetric: Whether replacements follow one random distribution (a softmax of uniform numbers) rather than the uniform one.
        seed: Seed of the generator; the release has 0.
        rows: Rows that may change; all by default.
    """
    true = check_label_array(labels, num_classes)
    chosen = chosen_rows(rows, len(true))
    rng = np.random.RandomState(seed)
    hit = rng.choice(chosen, int(rate * len(chosen)), replace=False)
    prior = softmax(rng.rand(num_classes)) if asymmetric else None
    noisy = true.copy()
    noisy[hit] = rng.choice(num_classes, len(hit), replace=True, p=prior)
    matrix = symmetric(num_classes, rate, self_flips=True) if prior is None else class_prior(prior, rate)
    return Injected(noisy, noisy != true, matrix)


class ReleasedDualT(NamedTuple):
    """The release's Dual-T: T_club (K, K), T_spade (K, K) with a row of zeros for a class never predicted, and their product."""

    club: FloatArray
    spade: FloatArray
    product: FloatArray


def released_dual_t(probs: FloatArray, labels: IntArray, *, percentile: float | None = PERCENTILE) -> ReleasedDualT:
    """The release's Dual-T, holes and zero rows included; arguments as :func:`holdfast.labels.anchor_points.dual_t`."""
    table = np.array(probs, dtype=np.float64)
    counts = predicted_observed_counts(table, labels)
    club = np.empty((table.shape[1],) * 2)
    for k in range(table.shape[1]):
        if percentile is not None:
            table[:, k] = np.where(drop_outliers(table[:, k], percentile), 0.0, table[:, k])
        club[k] = table[table[:, k].argmax()]
    spade = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return ReleasedDualT(club, spade, club @ spade)
