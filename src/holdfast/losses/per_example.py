"""What the losses of one value an example share: log-probabilities, the entry of the label, the reduction."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from holdfast.checks import check_labels, check_matrix, check_same_shape
from holdfast.errors import ShapeError

__all__ = ["Reduction", "check_classes", "entry_of_label", "log_probs", "reduce_losses", "weighted_mean"]

Reduction = Literal["none", "mean", "sum"]


def log_probs(logits: Tensor) -> Tensor:
    """``log softmax`` of logits (B, K), in float32 or wider.

    Raises:
        ShapeError: ``logits`` is no floating-point matrix.
    """
    check_matrix("logits", logits, symbols="(B, K)")
    return (logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits).log_softmax(dim=1)


def check_classes(labels: Tensor, logits: Tensor) -> None:
    """Refuse anything but one integer class (B,) for each row, or soft labels (B, K).

    Raises:
        ShapeError: The labels have another shape or type.
    """
    if labels.ndim == 2 and labels.is_floating_point():
        check_same_shape("soft labels", labels, "logits", logits)
    else:
        check_labels(labels, len(logits))


def entry_of_label(values: Tensor, labels: Tensor) -> Tensor:
    """``values[i, labels_i]`` (B,) of values (B, K); with soft labels (B, K) the mean of the row under them."""
    if labels.ndim == 2:
        return (values * labels.to(values.dtype)).sum(dim=1)
    return values.gather(1, labels[:, None]).squeeze(1)


def reduce_losses(losses: Tensor, reduction: Reduction) -> Tensor:
    """The losses (B,) themselves for ``none``, else their mean or sum.

    Raises:
        ShapeError: There is no such reduction.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ShapeError(f"reduction: expected none, mean or sum, got {reduction!r}.")
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """``(1/B) Σ_i w_i loss_i``; without weights the mean. Weights are not made to have mean 1 in the batch."""
    return losses.mean() if weights is None else (weights * losses).mean()
