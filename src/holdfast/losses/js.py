"""Jensen-Shannon loss, of one view of an example or of several."""

from __future__ import annotations

from torch import Tensor

from holdfast.losses.bounded_losses import jensen_shannon
from holdfast.losses.per_example import weighted_mean
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Step

__all__ = ["JensenShannon"]


class JensenShannon(TaskLoss):
    """Divergence of the label and the predictions for one or more augmented views. Englesson and Azizpour, NeurIPS 2021.

    Further views pass through the network after the first, and BatchNorm statistics follow them too.

    Args:
        label_weight: π₁; the rest is shared by the predictions.
        views: Further views of each example; with one or more it is the authors' GJS.
    """

    SHARDED = True

    def __init__(self, *, label_weight: float = 0.5, views: int = 0) -> None:
        super().__init__()
        self.label_weight = label_weight
        self.views = views
        self.NEEDS = Needs(hard_labels=True, weights=True, views=views)

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i (H(π₁ e_{y_i} + Σ_m π_m p_im) - Σ_m π_m H(p_im)) / Z``."""
        further = [step.forward(view, {}).logits for view in step.views[: self.views]]
        share = (1 - self.label_weight) / (1 + self.views)
        weights = (self.label_weight, *[share] * (1 + self.views))
        return weighted_mean(jensen_shannon(step.logits, step.labels, weights=weights, further=further, reduction="none"), step.weights)
