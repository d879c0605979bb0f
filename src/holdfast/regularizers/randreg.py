"""RandReg: random reference vectors, the same distribution for every class."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from holdfast.regularizers.functional import random_reference_loss, sample_reference
from holdfast.regularizers.priors import pooled_prior
from holdfast.terms import Needs, Regularizer
from holdfast.types import Source, Step

__all__ = ["RandReg"]


class RandReg(Regularizer):
    """Mean squared distance of the pooled features from random vectors, drawn afresh for every example and step.

    Yamaguchi et al., CVPR 2024. The statistics of the prior ``pretrained`` are taken in eval mode on un-augmented images; paper and
    release leave that open. As in the release, its second parameter is a standard deviation where the paper says variance.

    Args:
        prior: ``uniform`` on [0, 1), standard ``normal``, or normal with the mean and standard deviation of each ``pretrained``
            feature dimension over the training split.
    """

    NEEDS = Needs(layers=("pooled",))
    SHARDED = True
    STATE = ("mean", "std")  # (D,) each, for the prior 'pretrained'
    mean: Tensor | None
    std: Tensor | None

    def __init__(self, *, prior: Literal["uniform", "normal", "pretrained"] = "pretrained") -> None:
        super().__init__()
        self.prior = prior

    def setup(self, source: Source) -> None:
        """Estimate the statistics of the pretrained features, where the prior asks for them."""
        if self.prior == "pretrained":
            self.mean, self.std = pooled_prior(source)

    def reference(self, step: Step) -> Tensor:
        """This step's reference vectors (B, D)."""
        draws, width = step.rng("randreg"), step.features["pooled"].shape[1]
        if self.prior == "uniform":
            return draws.uniform(width)
        noise = draws.normal(width)
        if self.mean is None or self.std is None:
            return noise
        return sample_reference(self.mean, self.std, noise)

    def penalty(self, step: Step) -> Tensor:
        """``(1/(B·D)) Σ_i ‖z_i - r_i‖²``."""
        return random_reference_loss(step.features["pooled"], self.reference(step))
