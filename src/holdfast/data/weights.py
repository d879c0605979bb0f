"""How much each training example counts in the task loss."""

from __future__ import annotations

import numpy as np

from holdfast.data.source import FloatArray, IntArray
from holdfast.errors import DataError

__all__ = ["example_weights"]


def example_weights(labels: IntArray, own: FloatArray | None, *, balanced: bool, spec: str) -> FloatArray | None:
    """Weights (N,) of the training examples with mean 1, or None where all are equal.

    Args:
        labels: Their classes (N,).
        own: Weights (N,) that the dataset gives, at least 0.
        balanced: Whether each is multiplied by ``N / (K n_c)``, with ``n_c`` the training examples of its class and ``K`` the classes that
            have some.
        spec: The dataset as the user named it.

    Raises:
        DataError: All weights are 0.
    """
    weights = np.ones(len(labels)) if own is None else own.astype(np.float64)
    if not np.any(weights > 0):
        raise DataError(f"{spec}: the weight of every training example is 0, so there is nothing to learn; give some of them more.")
    if balanced:
        _, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
        weights = weights * (len(labels) / (len(counts) * counts))[members]
    weights = weights / weights.mean()
    return None if np.allclose(weights, 1, rtol=0, atol=1e-12) else weights
