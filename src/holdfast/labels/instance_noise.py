"""Noise that depends on the example: labels are confused more where the inputs look like another class (Xia et al., NeurIPS 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import truncnorm

from holdfast.errors import ShapeError
from holdfast.labels.arrays import FloatArray, IntArray, check_label_array
from holdfast.labels.injection import Injected, Seed, check_rate, chosen_rows, draw_labels, empirical_transition, generator

__all__ = ["inject_instance", "instance_distributions"]

SPREAD = 0.1


def inject_instance(
    labels: Any,
    features: FloatArray,
    num_classes: int,
    rate: float,
    *,
    seed: Seed = 0,
    spread: float = SPREAD,
    rows: IntArray | None = None,
) -> Injected:
    """Draw a rate for each example and its wrong class by a random projection of its features.

    Args:
        labels: True classes (N,).
        features: Inputs or features of a frozen network (N, D); standardised here.
        num_classes: K.
        rate: Mean rate, from 0 to below 1.
        seed: Seed or generator.
        spread: Standard deviation of the rates, which are normal, cut to [0, 1].
        rows: Rows that may change; all by default.

    Returns:
        With the empirical matrix over ``rows``, since the rule has none.

    Raises:
        ConfigError: The rate is out of its range.
        ShapeError: There is not one row of features for each label.
    """
    check_rate(rate)
    true = check_label_array(labels, num_classes)
    if np.ndim(features) != 2 or len(features) != len(true):
        raise ShapeError(f"features must be ({len(true)}, D), a row for each label, got {np.shape(features)}.")
    chosen = chosen_rows(rows, len(true))
    rng = generator(seed)
    rates = truncated_rates(rate, spread, rng.random(len(chosen)))
    projections = rng.standard_normal((num_classes, features.shape[1], num_classes))
    distributions = instance_distributions(true[chosen], _standardised(features[chosen]), rates, projections)
    noisy = true.copy()
    noisy[chosen] = draw_labels(np.arange(len(chosen)), distributions, rng.random(len(chosen)))
    return Injected(noisy, noisy != true, empirical_transition(true[chosen], noisy[chosen], num_classes))


def instance_distributions(labels: IntArray, features: FloatArray, rates: FloatArray, projections: FloatArray) -> FloatArray:
    """P(observed | example) (N, K): ``1 - rate`` for its own class, and ``rate`` spread over the others by softmax of projected features.

    Args:
        labels: True classes (N,).
        features: Standardised features (N, D).
        rates: Rate of each example (N,).
        projections: A matrix (D, K) for each true class, (K, D, K).
    """
    scores = np.empty((len(labels), projections.shape[2]))
    for label in np.unique(labels):  # class by class, since a projection for each example would not fit into memory
        scores[labels == label] = features[labels == label] @ projections[label]
    everyone = np.arange(len(labels))
    scores[everyone, labels] = -np.inf
    distributions = rates[:, None] * softmax(scores, axis=1)
    distributions[everyone, labels] = 1 - rates
    return distributions


def truncated_rates(mean: float, spread: float, uniforms: FloatArray) -> FloatArray:
    """Normal rates of this mean and standard deviation before they are cut to [0, 1], one for each uniform draw."""
    if spread == 0:
        return np.full(len(uniforms), mean)
    return np.asarray(truncnorm.ppf(uniforms, -mean / spread, (1 - mean) / spread, loc=mean, scale=spread), dtype=np.float64)


def _standardised(features: FloatArray) -> FloatArray:
    deviation = features.std(axis=0)
    return np.asarray((features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1), dtype=np.float64)
