"""Plain fine-tuning."""

from __future__ import annotations

from torch import Tensor

from holdfast.losses.functional import cross_entropy
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Step

__all__ = ["CrossEntropy"]


class CrossEntropy(TaskLoss):
    """Mean cross-entropy of the batch."""

    NEEDS = Needs(weights=True)
    SHARDED = True

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i -w_i log softmax(logits_i)[labels_i]``, with ``w_i = 1`` where examples have no weights.

        The weights have mean 1 over the training split. They are not made to have mean 1 in each batch, so that ranks and micro-batches
        agree with one batch.
        """
        losses = cross_entropy(step.logits, step.labels)
        return losses.mean() if step.weights is None else (step.weights * losses).mean()
