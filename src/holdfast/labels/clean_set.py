"""Transition matrices from examples whose truth is known, exactly or as a distribution."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.arrays import ABSTAIN, FloatArray, check_label_array, check_probabilities

__all__ = ["from_clean_set", "from_posterior"]

log = logging.getLogger("holdfast")

FEW = 50


def from_clean_set(true: Any, observed: Any, num_classes: int, *, smoothing: float = 1.0) -> FloatArray:
    """Count observed labels by true class, and smooth the counts towards symmetric noise of the same overall rate.

    The posterior mean under a Dirichlet prior for each row: ``smoothing`` pseudo-examples, as a class at the average rate would show them.
    A class without clean examples gets that row.

    Args:
        true: Known classes (N,).
        observed: Labels (N,) of the same examples.
        num_classes: K.
        smoothing: Pseudo-examples a row; 0 for the bare shares.

    Returns:
        F (K, K).

    Raises:
        DataError: There is no example.
        ConfigError: The smoothing is negative.
    """
    y, noisy = check_label_array(true, num_classes, name="true"), check_label_array(observed, num_classes, name="observed")
    if len(y) != len(noisy):
        raise ShapeError(f"true and observed must be of one length, got {len(y)} and {len(noisy)}.")
    if not len(y):
        raise DataError("clean set: no example has a known class; give some, 50 or more if possible.")
    if not smoothing >= 0:
        raise ConfigError(f"smoothing: expected a number of at least 0, got {smoothing:g}.")
    if len(y) < FEW:
        log.warning("clean set: %d examples are few for a matrix of %d x %d; %d or more are better", len(y), num_classes, num_classes, FEW)
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (y, noisy), 1)
    return _smoothed(counts, smoothing)


def from_posterior(posterior: Any, observed: Any) -> FloatArray:
    """F of labels whose truth is known as a distribution, such as Dawid and Skene's: counts weighted by it.

    Args:
        posterior: P(true) of each example (N, K).
        observed: Labels (N,), -1 for examples without one, which are left out.

    Raises:
        DataError: No example has a label.
    """
    table = check_probabilities(posterior, name="posterior")
    labels = np.asarray(observed)
    rows = labels != ABSTAIN
    if not rows.any():
        raise DataError("observed: no example has a label.")
    noisy = check_label_array(labels[rows], table.shape[1], name="observed")
    return _smoothed(table[rows].T @ np.eye(table.shape[1])[noisy], 1e-9)


def _smoothed(counts: FloatArray, smoothing: float) -> FloatArray:
    """Rows of shares; ``smoothing`` examples of the pooled symmetric noise are added to each."""
    classes = len(counts)
    right = np.trace(counts) / counts.sum()
    pooled = np.full((classes, classes), (1 - right) / (classes - 1))
    np.fill_diagonal(pooled, right)
    total = counts.sum(axis=1, keepdims=True)
    weight = np.where((total == 0) & (smoothing == 0), 1.0, smoothing)
    return (counts + weight * pooled) / (total + weight)
