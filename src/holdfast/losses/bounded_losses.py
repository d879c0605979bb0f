"""Losses that a wrong label can raise only so far: GCE, RCE, MAE, NCE, Jensen-Shannon."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_same_shape
from holdfast.errors import ShapeError
from holdfast.losses.per_example import Reduction, check_classes, entry_of_label, log_probs, reduce_losses

__all__ = [
    "generalized_cross_entropy",
    "jensen_shannon",
    "mean_absolute_error",
    "normalized_cross_entropy",
    "reverse_cross_entropy",
]


def generalized_cross_entropy(
    logits: Tensor, labels: Tensor, *, q: float = 0.7, truncate: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """``(1 - p_y^q) / q``: cross-entropy for q → 0, ``1 - p_y`` for q = 1, never above ``1 / q``.

    Zhang and Sabuncu, NeurIPS 2018.

    Args:
        logits: Scores before softmax (B, K).
        labels: Classes (B,).
        q: From 0, which is cross-entropy itself, to 1.
        truncate: Examples with ``p_y`` at or below this count as the constant ``(1 - truncate^q) / q``, without gradient; 0 for none.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    check_labels(labels, len(logits))
    logs = entry_of_label(log_probs(logits), labels)
    losses = gce_of_log(logs, q)
    if truncate:
        losses = torch.where(logs > math.log(truncate), losses, gce_of_log(logs.new_tensor(math.log(truncate)), q))
    return reduce_losses(losses, reduction)


def gce_of_log(log_prob: Tensor, q: float) -> Tensor:
    """``(1 - p^q) / q`` of ``log p``, exact for small q too."""
    return -torch.expm1(q * log_prob) / q if q else -log_prob


def reverse_cross_entropy(logits: Tensor, labels: Tensor, *, log_zero: float = -4.0, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy with prediction and label exchanged, ``-A (1 - p_y)`` where A stands for log 0.

    Wang et al., ICCV 2019; a multiple of the mean absolute error.

    Args:
        logits: Scores before softmax (B, K).
        labels: Classes (B,).
        log_zero: A; -4 in the paper, log 1e-4 in much code.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, from 0 to ``-A``.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    return -log_zero * _missed(logits, labels, reduction)


def mean_absolute_error(logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``Σ_k |onehot_k - p_k| = 2 (1 - p_y)`` of logits (B, K) and classes (B,): (B,) or a scalar, from 0 to 2.

    Ghosh et al., AAAI 2017.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    return 2 * _missed(logits, labels, reduction)


def _missed(logits: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
    check_labels(labels, len(logits))
    return reduce_losses(-torch.expm1(entry_of_label(log_probs(logits), labels)), reduction)


def normalized_cross_entropy(logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``log p_y / Σ_k log p_k``: the label's share in the cross-entropies of all classes, from 0 to 1.

    Ma et al., ICML 2020.

    Args:
        logits: Scores before softmax (B, K).
        labels: Classes (B,), or soft ones (B, K).
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    check_classes(labels, logits)
    logs = log_probs(logits)
    return reduce_losses(entry_of_label(logs, labels) / logs.sum(dim=1), reduction)


def jensen_shannon(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Sequence[float] = (0.5, 0.5),
    further: Sequence[Tensor] = (),
    reduction: Reduction = "mean",
) -> Tensor:
    """Divergence of the label and one or more predictions: ``(H(Σ_m π_m p_m) - Σ_m π_m H(p_m)) / (-(1 - π_1) ln(1 - π_1))``.

    Englesson and Azizpour, NeurIPS 2021. With one prediction close to cross-entropy for π_1 → 0, and to a multiple of the mean absolute
    error for π_1 → 1. With predictions for several views of an example (GJS) it also makes them agree.

    Args:
        logits: Scores before softmax (B, K).
        labels: Classes (B,).
        weights: π: that of the label, then one for each prediction, above 0 and with sum 1.
        further: Logits (B, K) of further views.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes do not fit each other, or the weights are others.
    """
    check_labels(labels, len(logits))
    for view in further:
        check_same_shape("logits of a further view", view, "logits", logits)
    _check_weights(weights, len(further) + 1)
    of_label, *of_predictions = weights
    predictions = torch.stack([log_probs(scores) for scores in (logits, *further)])  # (M, B, K)
    shares = predictions.new_tensor(of_predictions)[:, None, None]
    mixed = (predictions + shares.log()).logsumexp(dim=0)
    is_label = F.one_hot(labels, logits.shape[1]).bool()
    mixed = torch.where(is_label, torch.logaddexp(mixed, mixed.new_tensor(math.log(of_label))), mixed)
    divergence = -_negative_entropy(mixed) + (shares[:, :, 0] * _negative_entropy(predictions)).sum(dim=0)
    return reduce_losses(divergence / (-(1 - of_label) * math.log1p(-of_label)), reduction)


def _check_weights(weights: Sequence[float], predictions: int) -> None:
    if len(weights) != predictions + 1 or min(weights) <= 0 or not math.isclose(sum(weights), 1, rel_tol=1e-6):
        raise ShapeError(
            f"weights: expected {predictions + 1} numbers above 0 with sum 1, the label's and one for each prediction, "
            f"got {tuple(weights)}."
        )


def _negative_entropy(logs: Tensor) -> Tensor:
    """``Σ_k p_k log p_k`` of log-probabilities (…, K)."""
    return (logs.exp() * logs).sum(dim=-1)
