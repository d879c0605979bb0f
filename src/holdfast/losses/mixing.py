"""Mixup: pairs of examples on the line between them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.losses.per_example import Reduction, check_classes, entry_of_label, log_probs, reduce_losses

__all__ = ["mix_rows", "mixup_cross_entropy"]


def mix_rows(inputs: Any, partners: Any, share: float) -> Any:
    """``share · inputs + (1 - share) · partners``, row by row.

    Raises:
        ConfigError: The inputs are no floating-point tensor.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        what = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ConfigError(f"method 'mixup' mixes inputs, which must be floating-point tensors such as images, got {what}; use another loss")
    return partners.lerp(inputs, share)


def mixup_cross_entropy(logits: Tensor, labels: Tensor, partners: Tensor, share: float, *, reduction: Reduction = "mean") -> Tensor:
    """``λ CE(z, y) + (1 - λ) CE(z, y')`` of logits of mixed inputs. Zhang et al., ICLR 2018.

    Args:
        logits: Scores before softmax (B, K) of ``λ x + (1 - λ) x'``.
        labels: Classes y (B,), or soft ones (B, K).
        partners: y', likewise.
        share: λ.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    check_classes(labels, logits)
    check_classes(partners, logits)
    logs = log_probs(logits)
    return reduce_losses(-share * entry_of_label(logs, labels) - (1 - share) * entry_of_label(logs, partners), reduction)
