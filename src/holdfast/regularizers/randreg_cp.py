"""RandReg-CP: random reference vectors around the pretrained mean of each class."""

from __future__ import annotations

from torch import Tensor

from holdfast.regularizers.functional import random_reference_loss, sample_reference
from holdfast.regularizers.priors import ClassPrior, class_prior
from holdfast.terms import Needs, Regularizer
from holdfast.types import Source, Step

__all__ = ["ConditionalRandReg"]


class ConditionalRandReg(Regularizer):
    """Mean squared distance of the pooled features from ``μ_y + σ_y ⊙ ε``, with μ and σ fixed before training.

    Yamaguchi et al., CVPR 2024: RandReg with the class-conditional prior. A class without a training example uses the pooled
    statistics.
    """

    NEEDS = Needs(layers=("pooled",), hard_labels=True)
    SHARDED = True
    STATE = ("mean", "std")  # (K, D) each
    mean: Tensor
    std: Tensor

    def setup(self, source: Source) -> None:
        """Estimate the class statistics of the pretrained features."""
        self.set_prior(class_prior(source))

    def set_prior(self, prior: ClassPrior) -> None:
        """Use these class statistics."""
        self.mean, self.std = prior.mean.clone(), prior.std.clone()

    def penalty(self, step: Step) -> Tensor:
        """``(1/(B·D)) Σ_i ‖z_i - r_i‖²``,  r_i ~ N(μ_{y_i}, σ_{y_i}²)."""
        features = step.features["pooled"]
        noise = step.rng("randreg-cp").normal(features.shape[1])
        return random_reference_loss(features, sample_reference(self.mean[step.labels], self.std[step.labels], noise))
