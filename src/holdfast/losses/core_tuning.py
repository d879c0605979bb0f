"""Core-tuning."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor, nn

from holdfast.losses.focal_contrast import focal_contrastive_loss, soft_label_positives
from holdfast.losses.hard_pairs import mix_hard_pairs
from holdfast.terms import Needs, Scope, TaskLoss
from holdfast.types import HeadForm, Source, Step

__all__ = ["CoreTuning", "project"]

Projection = tuple[Tensor, Tensor, Tensor, Tensor]


def project(features: Tensor, projection: Projection) -> Tensor:
    """``normalize(P₂ relu(P₁ z + q₁) + q₂)``: unit rows (M, P) from features (M, D) and (P₁, q₁, P₂, q₂)."""
    inner, inner_bias, outer, outer_bias = projection
    return F.normalize(F.linear(F.linear(features, inner, inner_bias).relu(), outer, outer_bias), dim=1)


class CoreTuning(TaskLoss):
    """Cross-entropy and focal contrast on mixed hard pairs of features.

    Zhang et al., NeurIPS 2021. Head and projection learn from originals and mixed rows, the network from mixed rows alone; hardest pairs
    are true extrema, where the authors' release takes wrong ones (see :func:`~holdfast.losses.hard_pairs.hard_pairs`). On several ranks
    pairs and contrast are those of the whole batch; every example is drawn its own shares and partner.

    Args:
        temperature: τ of the contrast.
        alpha: Both parameters of the Beta distribution of the shares.
        floor: Least share λ⁻ of the partner in a semi-hard negative.
        width: Size of the projections.
        normalize: Division of a row's contrast, by all rows or by its positives.
        detach_originals: Whether the network learns from mixed rows alone.
        gather: Whether ranks look at the whole batch or each at its own part, as published.
    """

    NEEDS = Needs(layers=("pooled",), hard_labels=True, head=HeadForm(bias=False))
    SCOPE = Scope.BATCH
    SHARDED = True
    STATE = ("inner_weight", "inner_bias", "outer_weight", "outer_bias")

    inner_weight: nn.Parameter  # (D, D)
    inner_bias: nn.Parameter  # (D,)
    outer_weight: nn.Parameter  # (P, D)
    outer_bias: nn.Parameter  # (P,)

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        alpha: float = 1.0,
        floor: float = 0.8,
        width: int = 256,
        normalize: Literal["rows", "positives"] = "rows",
        detach_originals: bool = True,
        gather: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.alpha = alpha
        self.floor = floor
        self.width = width
        self.normalize: Literal["rows", "positives"] = normalize
        self.detach_originals = detach_originals
        self.gather = gather

    def setup(self, source: Source) -> None:
        """Draw the projection, as fresh Linear layers are."""
        pooled = source.reference.features(next(source.batches()).inputs)["pooled"]
        width, bound = pooled.shape[1], 1 / math.sqrt(pooled.shape[1])
        generator = source.generator("core-tuning")
        shapes = {"inner_weight": (width, width), "inner_bias": (width,), "outer_weight": (self.width, width), "outer_bias": (self.width,)}
        for name, shape in shapes.items():
            drawn = bound * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
            setattr(self, name, nn.Parameter(drawn.to(pooled)))

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``cross-entropy`` with the mixed labels, and ``contrastive``."""
        features, labels, draws = step.features["pooled"], step.labels, step.rng("core-tuning").uniform(3)
        if self.gather:
            features, labels, draws = (step.comm.gather(rows) for rows in (features, labels, draws))
        rows, targets = mix_hard_pairs(
            features,
            F.one_hot(labels, step.head.out_features).to(features.dtype),
            permutation=draws[:, 2].argsort(),
            negative_share=self._beta(draws[:, 0]).clamp(min=self.floor),
            positive_share=self._beta(draws[:, 1]),
            detach_originals=self.detach_originals,
        )
        cross_entropy = F.cross_entropy(step.head(rows), targets)
        projections = project(rows, (self.inner_weight, self.inner_bias, self.outer_weight, self.outer_bias))
        if len(labels) == 1:  # all three rows coincide, and there is nothing to tell apart
            return {"cross-entropy": cross_entropy, "contrastive": 0 * projections.sum()}
        positives = soft_label_positives(targets)
        contrastive = focal_contrastive_loss(projections, positives, temperature=self.temperature, normalize=self.normalize)
        return {"cross-entropy": cross_entropy, "contrastive": contrastive}

    def _beta(self, uniform: Tensor) -> Tensor:
        """Beta(α, α) draws from uniform ones, which are such draws themselves for α = 1."""
        if self.alpha == 1:
            return uniform
        return torch.as_tensor(betaincinv(self.alpha, self.alpha, uniform.double().cpu().numpy())).to(uniform)
