"""Out-of-sample class probabilities in seconds: logistic regression on the features of a frozen network, cross-validated.

A model that has seen an example's label repeats it, right or wrong. So each example is judged by one that was fitted without it.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.arrays import FloatArray, IntArray, check_label_array

__all__ = ["STRENGTHS", "cross_validated_probabilities", "dealt_out", "expected_calibration_error", "fitted_probabilities"]

log = logging.getLogger("holdfast")

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the penalty that are tried; the one with the best log-likelihood on the first fold is taken."""

BINS = 15


def cross_validated_probabilities(features: Any, labels: Any, num_classes: int, *, folds: int = 5, seed: int = 0) -> FloatArray:
    """Noisy-class probabilities (N, K) of each example, by a model fitted on the other folds.

    Args:
        features: Features (N, D), dense or sparse; dense ones are standardised.
        labels: Observed classes (N,).
        num_classes: K.
        folds: How many parts the examples are cut into, class by class.
        seed: Seed of the cut.

    Raises:
        DataError: There is only one class, or features are not finite.
        ConfigError: There are fewer than two folds, or more than examples.
    """
    from scipy import sparse

    observed = check_label_array(labels, num_classes)
    table: Any = features if sparse.issparse(features) else np.asarray(features, dtype=np.float64)
    _check(table, observed, folds)
    parts = dealt_out(observed, folds, seed)
    strength = _best_strength(table, observed, parts == 0)
    probs = np.zeros((len(observed), num_classes))
    for part in range(folds):
        held_out = parts == part
        classes, found = fitted_probabilities(table, observed, held_out, strength)
        probs[np.ix_(held_out, classes)] = found
    return probs


def _check(table: Any, labels: IntArray, folds: int) -> None:
    if table.ndim != 2 or table.shape[0] != len(labels):
        raise ShapeError(f"features must be ({len(labels)}, D), a row for each label, got {table.shape}.")
    values = table.data if hasattr(table, "tocsr") else table
    if not np.isfinite(values).all():
        raise DataError("features: some are NaN or infinite; check the network or the inputs.")
    if len(np.unique(labels)) < 2:
        raise DataError("labels: all examples are of one class, so nothing can be told apart; give at least two.")
    if not 2 <= folds <= len(labels):
        raise ConfigError(f"folds: expected a whole number from 2 to {len(labels)}, the number of examples, got {folds}.")


def dealt_out(labels: IntArray, folds: int, seed: int) -> IntArray:
    """The part (N,) of each example; each class is dealt out evenly, starting where the last one ended."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    parts = np.empty(len(labels), dtype=np.int64)
    parts[by_class] = np.arange(len(labels)) % folds
    return parts


def _best_strength(table: Any, labels: IntArray, held_out: Any) -> float:
    """Smallest negative log-likelihood of the held-out labels, those of classes without other examples left out."""

    def loss(strength: float) -> float:
        classes, found = fitted_probabilities(table, labels, held_out, strength)
        place = {label: column for column, label in enumerate(classes.tolist())}
        rows = [(row, place[label]) for row, label in enumerate(labels[held_out].tolist()) if label in place]
        return -float(np.mean([np.log(max(found[row, column], 1e-12)) for row, column in rows]))

    return min(STRENGTHS, key=loss)


def fitted_probabilities(table: Any, labels: IntArray, held_out: Any, strength: float) -> tuple[IntArray, FloatArray]:
    """The classes of the other examples, and the probabilities of those for the held-out ones."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    seen, new = table[~held_out], table[held_out]
    if isinstance(seen, np.ndarray):
        mean, deviation = seen.mean(axis=0), seen.std(axis=0)
        scale = np.where(deviation > 0, deviation, 1)
        seen, new = (seen - mean) / scale, (new - mean) / scale
    else:
        strength *= 100  # rows of word weights are short, so the same penalty weighs more
    model = LogisticRegression(C=strength, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close enough for a ranking, and the labels are wrong anyway
        model.fit(seen, labels[~held_out])
    probs = model.predict_proba(new)
    return model.classes_, probs / probs.sum(axis=1, keepdims=True)


def expected_calibration_error(probs: FloatArray, labels: IntArray, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their examples.

    Args:
        probs: Class probabilities (N, K).
        labels: The labels (N,) they are compared with; noisy ones here.
        bins: How many.
    """
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
