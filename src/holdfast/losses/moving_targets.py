"""Losses whose targets follow the network's own predictions: ELR and SAT."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.checks import check_same_shape
from holdfast.losses.per_example import Reduction, log_probs, reduce_losses

__all__ = ["early_learning_regularization", "early_learning_targets", "self_adaptive_loss", "self_adaptive_targets"]

_FLOOR = 1e-4


def early_learning_targets(targets: Tensor, logits: Tensor, *, momentum: float = 0.7) -> Tensor:
    """``b t + (1 - b) q / Σ_k q_k`` with ``q = clamp(p, 1e-4, 1 - 1e-4)``: the next targets (B, K), without gradient.

    Args:
        targets: t (B, K); zero for examples not seen before.
        logits: Scores before softmax (B, K).
        momentum: b.

    Raises:
        ShapeError: The shapes differ.
    """
    check_same_shape("targets", targets, "logits", logits)
    probs = _clamped(logits.detach())
    return momentum * targets + (1 - momentum) * probs / probs.sum(dim=1, keepdim=True)


def early_learning_regularization(logits: Tensor, targets: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``ln(1 - ⟨t, q⟩)``, which holds predictions to what they were before wrong labels are learnt by heart.

    Liu et al., NeurIPS 2020, equation 6; to be multiplied by λ and added to cross-entropy.

    Args:
        logits: Scores before softmax (B, K).
        targets: t (B, K), with rows that sum to at most 1.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at most 0.

    Raises:
        ShapeError: The shapes differ.
    """
    check_same_shape("targets", targets, "logits", logits)
    probs = _clamped(logits)
    return reduce_losses(torch.log1p(-(targets.to(probs.dtype) * probs).sum(dim=1)), reduction)


def _clamped(logits: Tensor) -> Tensor:
    return log_probs(logits).exp().clamp(_FLOOR, 1 - _FLOOR)


def self_adaptive_targets(targets: Tensor, logits: Tensor, *, momentum: float = 0.9) -> Tensor:
    """``m t + (1 - m) p``: the next targets (B, K), without gradient; before the first time t is the one-hot label.

    Raises:
        ShapeError: The shapes differ.
    """
    check_same_shape("targets", targets, "logits", logits)
    return momentum * targets + (1 - momentum) * log_probs(logits.detach()).exp()


def self_adaptive_loss(logits: Tensor, targets: Tensor, *, mean_sureness: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy with moving targets, each example weighted by how sure its target is.

    ``-(w_i B / Σ_j w_j) Σ_k t_ik log p_ik`` with ``w_i = max_k t_ik``. Huang, Zhang and Zhang, NeurIPS 2020.

    Args:
        logits: Scores before softmax (B, K).
        targets: t (B, K).
        mean_sureness: The mean of w, where the batch is more than these rows.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes differ.
    """
    check_same_shape("targets", targets, "logits", logits)
    logs = log_probs(logits)
    targets = targets.to(logs.dtype)
    sureness = targets.amax(dim=1)
    return reduce_losses(-sureness / (sureness.mean() if mean_sureness is None else mean_sureness) * (targets * logs).sum(dim=1), reduction)
