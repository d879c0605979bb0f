"""The Brier score in place of the cross-entropy: bounded, so that a wrong label pulls less."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from holdfast import Needs, TaskLoss, register
from holdfast.types import Step

__all__ = ["Brier", "brier_score"]


def brier_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of each example's probabilities from its one-hot label (B,), from 0 to 2."""
    targets = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(dim=1) - targets).square().sum(dim=1)


@register("brier", summary="Brier score in place of the cross-entropy")
class Brier(TaskLoss):
    """Mean Brier score of the batch."""

    NEEDS = Needs(hard_labels=True, weights=True)

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i ‖p_i - onehot(y_i)‖²``; all ``w_i`` are 1 without class or example weights."""
        score = brier_score(step.logits, step.labels)
        return (score if step.weights is None else step.weights * score).mean()
