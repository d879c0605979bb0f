"""Active passive loss."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from holdfast.losses.bounded_losses import mean_absolute_error, normalized_cross_entropy, reverse_cross_entropy
from holdfast.losses.per_example import weighted_mean
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Step

__all__ = ["ActivePassiveLoss"]


class ActivePassiveLoss(TaskLoss):
    """Normalized cross-entropy, which raises the label, and a loss that lowers the other classes. Ma et al., ICML 2020.

    Args:
        passive: The second one: reverse cross-entropy or mean absolute error.
        log_zero: What stands for log 0 in the reverse.
    """

    NEEDS = Needs(hard_labels=True, weights=True)
    SHARDED = True

    def __init__(self, *, passive: Literal["rce", "mae"] = "rce", log_zero: float = -4.0) -> None:
        super().__init__()
        self.passive = passive
        self.log_zero = log_zero

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``active`` and ``passive``, the means of each."""
        logits, labels = step.logits, step.labels
        if self.passive == "rce":
            passive = reverse_cross_entropy(logits, labels, log_zero=self.log_zero, reduction="none")
        else:
            passive = mean_absolute_error(logits, labels, reduction="none")
        active = normalized_cross_entropy(logits, labels, reduction="none")
        return {"active": weighted_mean(active, step.weights), "passive": weighted_mean(passive, step.weights)}
