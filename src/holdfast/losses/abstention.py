"""The loss of a network that may abstain: DAC."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.checks import check_labels
from holdfast.losses.per_example import Reduction, log_probs, reduce_losses

__all__ = ["abstention_loss", "abstention_threshold"]


def abstention_loss(logits: Tensor, labels: Tensor, *, alpha: Tensor | float, reduction: Reduction = "mean") -> Tensor:
    """``(1 - a) (-log (p_y / (1 - a))) + α (-log (1 - a))``, a being the probability of the last output, which is no class.

    Thulasidasan et al., ICML 2019, equation 1.

    Args:
        logits: Scores before softmax (B, K + 1).
        labels: Classes (B,), from 0 to K - 1.
        alpha: α, the price of abstaining.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    among_classes, log_answered = _parts(logits, labels)
    return reduce_losses(log_answered.exp() * among_classes - alpha * log_answered, reduction)


def abstention_threshold(logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """``(1 - a) (-log (p_y / (1 - a)))`` of logits (B, K + 1), without gradient: below this price abstaining lowers the loss.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    among_classes, log_answered = _parts(logits.detach(), labels)
    return reduce_losses(log_answered.exp() * among_classes, reduction)


def _parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy among the K classes alone (B,), and ``log (1 - a)`` (B,)."""
    check_labels(labels, len(logits))
    logs = log_probs(logits)
    log_answered = torch.logsumexp(logs[:, :-1], dim=1)
    return log_answered - logs.gather(1, labels[:, None]).squeeze(1), log_answered
