"""Multinomial logistic regression with an L2 penalty, solved to its minimum: the strong linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

__all__ = ["DECAYS", "Array", "IntArray", "Linear", "accuracy_and_loss", "logistic_path", "logistic_regression"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

DECAYS = tuple(float(10.0**power) for power in (-2, -2.5, -3, -3.5, -4, -4.5, -5, -6))
"""Penalties tried, strongest first, for features whose mean squared distance from their mean is 1."""

STEPS = 200
"""Iterations of L-BFGS at most. A penalty so weak that they do not suffice is stopped early, which holds the weights back in its place."""


@dataclass(frozen=True)
class Linear:
    """A linear classifier: ``weight`` (K, D) and ``bias`` (K,), which is 0 where there is none."""

    weight: Array
    bias: Array

    def logits(self, features: Array) -> Array:
        """Logits (N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias


def logistic_regression(
    features: Array,
    labels: IntArray,
    num_classes: int,
    *,
    decay: float,
    weights: Array | None = None,
    bias: bool = True,
    start: Linear | None = None,
    steps: int = STEPS,
) -> Linear:
    """The minimum of the mean cross-entropy plus ``decay/2 · ‖W‖²``; the bias is not penalized.

    By L-BFGS from ``start``. The function is convex, so that where it begins decides how long it takes and not where it ends.

    Args:
        features: (N, D).
        labels: Classes (N,), from 0.
        num_classes: K; a class may have no example.
        decay: λ, above 0.
        weights: How much each example counts (N,); all the same where None. The mean is divided by their sum.
        bias: Whether there is one.
        start: A classifier that is probably near.
        steps: Iterations at most.
    """
    count, width = features.shape
    shares = np.full(count, 1 / count) if weights is None else weights / weights.sum()
    rows = np.arange(count)

    def objective(flat: Array) -> tuple[float, Array]:
        weight, offset = flat[: num_classes * width].reshape(num_classes, width), flat[num_classes * width :]
        log_probs = log_softmax(features @ weight.T + (offset if bias else 0.0), axis=1)
        value = -float(shares @ log_probs[rows, labels]) + decay / 2 * float((weight**2).sum())
        slope = np.exp(log_probs)
        slope[rows, labels] -= 1
        slope *= shares[:, None]
        gradient = slope.T @ features + decay * weight
        return value, np.concatenate([gradient.ravel(), slope.sum(axis=0) if bias else offset])

    first = np.zeros(num_classes * width + (num_classes if bias else 0))
    if start is not None:
        first = np.concatenate([start.weight.ravel(), start.bias if bias else np.zeros(0)])
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 1e-10, "gtol": 1e-7}).x
    offset = found[num_classes * width :] if bias else np.zeros(num_classes)
    return Linear(found[: num_classes * width].reshape(num_classes, width), offset)


def logistic_path(
    features: Array,
    labels: IntArray,
    num_classes: int,
    *,
    weights: Array | None = None,
    bias: bool = True,
    decays: Sequence[float] = DECAYS,
) -> dict[float, Linear]:
    """A classifier for each penalty, each solved from where the one before has ended.

    Features are centred and divided by one number, their root mean squared distance from the mean, while a classifier is fitted, so that
    the same penalties suit every network; what is returned is for features as they are.

    Args:
        features: Of the training examples (N, D).
        labels: Their classes (N,).
        num_classes: K.
        weights: How much each training example counts (N,).
        bias: Whether the classifiers have one. Without it features are not centred.
        decays: Penalties, see :func:`logistic_regression`.
    """
    centre = features.mean(axis=0) if bias else np.zeros(features.shape[1])
    scale = float(np.sqrt(((features - centre) ** 2).sum(axis=1).mean())) or 1.0
    scaled = (features - centre) / scale
    found: dict[float, Linear] = {}
    latest = None
    for decay in decays:
        latest = logistic_regression(scaled, labels, num_classes, decay=decay, weights=weights, bias=bias, start=latest)
        weight = latest.weight / scale
        found[decay] = Linear(weight, latest.bias - weight @ centre)
    return found


def accuracy_and_loss(linear: Linear, features: Array, labels: IntArray) -> tuple[float, float]:
    """Share of examples (N, D) whose largest logit is their label, and mean cross-entropy in nats."""
    log_probs = log_softmax(linear.logits(features), axis=1)
    return float((log_probs.argmax(axis=1) == labels).mean()), -float(log_probs[np.arange(len(labels)), labels].mean())
