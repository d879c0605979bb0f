"""The confident joint of confident learning (Northcutt et al., JAIR 2021): counts of examples that are surely of another class."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from holdfast.labels.arrays import FloatArray, IntArray, check_label_array, check_probabilities

__all__ = ["ConfidentJoint", "confident_classes", "confident_joint", "confident_thresholds"]

SLACK = 1e-6
LOWEST_THRESHOLD = 2e-6
NEVER = 2.0


class ConfidentJoint(NamedTuple):
    """What the counts say.

    Args:
        transition: F (K, K), rows true.
        joint: P(observed, true) (K, K), rows observed, calibrated to the counts of the observed classes.
        counts: Confident examples (K, K), rows observed.
        thresholds: Probability (K,) from which an example is surely of a class.
        prior: P(true) (K,).
    """

    transition: FloatArray
    joint: FloatArray
    counts: IntArray
    thresholds: FloatArray
    prior: FloatArray


def confident_joint(probs: Any, labels: Any) -> ConfidentJoint:
    """Count each example under the class it is surely of, and make F of the counts.

    Args:
        probs: Noisy-class probabilities (N, K), out of sample.
        labels: Observed classes (N,).
    """
    table = check_probabilities(probs)
    classes = table.shape[1]
    observed = check_label_array(labels, classes)
    thresholds = confident_thresholds(table, observed)
    guesses = confident_classes(table, thresholds)
    sure = guesses >= 0
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (observed[sure], guesses[sure]), 1)
    np.fill_diagonal(counts, np.maximum(counts.diagonal(), 1))
    share = np.bincount(observed, minlength=classes) / len(observed)
    joint = counts / counts.sum(axis=1, keepdims=True) * share[:, None]
    prior = joint.sum(axis=0)
    # A class that is neither observed nor guessed has no column to divide by; nothing speaks against its labels.
    transition = np.where(prior > 0, joint / np.where(prior > 0, prior, 1), np.eye(classes)).T
    return ConfidentJoint(transition, joint, counts, thresholds, prior)


def confident_thresholds(probs: FloatArray, labels: IntArray) -> FloatArray:
    """Mean probability (K,) of a class among the examples observed as it; out of reach for a class that is never observed."""
    totals = np.bincount(labels, weights=probs[np.arange(len(labels)), labels], minlength=probs.shape[1])
    counts = np.bincount(labels, minlength=probs.shape[1])
    return np.where(counts > 0, np.maximum(totals / np.maximum(counts, 1), LOWEST_THRESHOLD), NEVER)


def confident_classes(probs: FloatArray, thresholds: FloatArray) -> IntArray:
    """The class (N,) each example is surely of; the most probable where several qualify, -1 where none does."""
    above = probs >= thresholds - SLACK
    number = above.sum(axis=1)
    guesses = np.where(number > 1, probs.argmax(axis=1), above.argmax(axis=1))
    return np.where(number > 0, guesses, -1)
