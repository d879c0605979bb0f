"""Label smoothing."""

from __future__ import annotations

from torch import Tensor

from holdfast.losses.corrections import label_smoothing
from holdfast.losses.per_example import weighted_mean
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Step

__all__ = ["LabelSmoothing"]


class LabelSmoothing(TaskLoss):
    """Cross-entropy with a part of the target spread over all classes. Szegedy et al., CVPR 2016.

    Args:
        smoothing: That part.
    """

    NEEDS = Needs(weights=True)
    SHARDED = True

    def __init__(self, *, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i CE(z_i, (1 - a) onehot(y_i) + a/K)``; soft targets take the place of the one-hot ones."""
        labels = step.labels if step.targets is None else step.targets
        return weighted_mean(label_smoothing(step.logits, labels, smoothing=self.smoothing, reduction="none"), step.weights)
