"""Plain fine-tuning."""

from __future__ import annotations

from torch import Tensor

from holdfast.losses.functional import cross_entropy
from holdfast.terms import TaskLoss
from holdfast.types import Step

__all__ = ["CrossEntropy"]


class CrossEntropy(TaskLoss):
    """Mean cross-entropy of the batch."""

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i -log softmax(logits_i)[labels_i]``."""
        return cross_entropy(step.logits, step.labels).mean()
