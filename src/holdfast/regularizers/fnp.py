"""FNP: the feature norm penalty."""

from __future__ import annotations

from torch import Tensor

from holdfast.regularizers.functional import feature_norm_penalty
from holdfast.terms import Needs, Regularizer
from holdfast.types import Step

__all__ = ["FeatureNormPenalty"]


class FeatureNormPenalty(Regularizer):
    """Mean square of the pooled features; RandReg with reference 0 (Yamaguchi et al., CVPR 2024)."""

    NEEDS = Needs(layers=("pooled",))
    SHARDED = True

    def penalty(self, step: Step) -> Tensor:
        """``(1/(B·D)) Σ_i ‖z_i‖²``."""
        return feature_norm_penalty(step.features["pooled"])
