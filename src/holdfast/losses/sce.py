"""Symmetric cross-entropy."""

from __future__ import annotations

from torch import Tensor

from holdfast.losses.bounded_losses import reverse_cross_entropy
from holdfast.losses.functional import cross_entropy
from holdfast.losses.per_example import weighted_mean
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Step

__all__ = ["SymmetricCrossEntropy"]


class SymmetricCrossEntropy(TaskLoss):
    """Cross-entropy, which learns, and its reverse, which bears wrong labels. Wang et al., ICCV 2019.

    Args:
        log_zero: What stands for log 0 in the reverse.
    """

    NEEDS = Needs(hard_labels=True, weights=True)
    SHARDED = True

    def __init__(self, *, log_zero: float = -4.0) -> None:
        super().__init__()
        self.log_zero = log_zero

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``cross-entropy`` and ``reverse``, the means of each."""
        logits, labels, weights = step.logits, step.labels, step.weights
        reverse = reverse_cross_entropy(logits, labels, log_zero=self.log_zero, reduction="none")
        return {"cross-entropy": weighted_mean(cross_entropy(logits, labels), weights), "reverse": weighted_mean(reverse, weights)}
