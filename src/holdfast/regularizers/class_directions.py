"""AdaRand's objective for the class means of its prior: values, closed-form gradient, Adam update.

The gradient is written out because autograd would keep and re-read several K x D and K x K matrices at every step. Sums over pairs
of classes go through the K x K or the D x D Gram matrix, whichever is smaller; no K x K x D tensor appears anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from holdfast.checks import check_matrix, check_same_shape

__all__ = ["PriorObjective", "adam_update", "prior_objective"]

Distance = Literal["squared-cosine", "cosine"]
EPSILON = 1e-8


@dataclass(frozen=True)
class PriorObjective:
    """Values of the two losses (scalars, unweighted) and the gradient (K, D) of the sum of those that are switched on."""

    intra: Tensor
    inter: Tensor
    gradient: Tensor


def prior_objective(
    mean: Tensor, running_mean: Tensor, active: Tensor, *, intra: bool = True, inter: bool = True, distance: Distance = "squared-cosine"
) -> PriorObjective:
    """AdaRand's L_intra and L_inter over the active classes A, and their gradient with respect to ``mean``.

    Yamaguchi et al., CVPR 2024, in the form of the release (commit 25cc27d, updater/adarand.py), with c the cosine::

        L_intra = 1/|A| Σ_{k∈A} (c(μ_k, μ̄_k) - 1)²
        L_inter = 1/(|A|(|A|-1)) Σ_{k≠l∈A} c(μ_k, μ_l)²

    ``distance="cosine"`` is the form the paper's words suggest: mean 1 - c and mean c. One active class gives L_inter = 0, none
    gives 0 for both. Rows shorter than 1e-8 count as zero vectors: cosine 0, no gradient.

    Args:
        mean: Class means of the prior, μ (K, D).
        running_mean: Running means of the features, μ̄ (K, D).
        active: Which classes take part (K,), bool.
        intra: Whether L_intra enters the gradient.
        inter: Whether L_inter enters the gradient.
        distance: Form of both losses.

    Returns:
        Both values, also of a loss that is switched off, and the gradient.

    Raises:
        ShapeError: The matrices do not match.

    Example:
        >>> result = prior_objective(torch.eye(2), torch.eye(2), torch.tensor([True, True]))
        >>> float(result.intra), float(result.inter), float(result.gradient.norm())
        (0.0, 0.0, 0.0)
    """
    check_matrix("mean", mean, symbols="(K, D)")
    check_same_shape("mean", mean, "running_mean", running_mean)
    squared = distance == "squared-cosine"
    present = active[:, None]
    norm = torch.linalg.vector_norm(mean, dim=1, keepdim=True)  # (K, 1), like all vectors below
    running_norm = torch.linalg.vector_norm(running_mean, dim=1, keepdim=True).clamp_min(EPSILON)
    unit = mean * torch.where(present, 1 / norm.clamp_min(EPSILON), 0)
    classes = active.sum().to(mean.dtype)

    cosine = _row_products(unit, running_mean) / running_norm
    lag = torch.where(present, 1 - cosine, 0)
    value_intra = (lag.square() if squared else lag).sum() / classes.clamp_min(1)
    between = _between(unit, (classes * (classes - 1)).clamp_min(1), squared)

    # Each loss is a function of unit vectors. Its gradient is a direction, less the part of it along the row, over the row's length:
    # here as multiples of three matrices, so that each is read once.
    slope = (-2 * lag if squared else -torch.ones_like(lag)) / classes.clamp_min(1) * intra
    along = slope * cosine + inter * (between.scale * between.alignment + between.on_unit * between.diagonal)
    inverse = torch.where(present & (norm >= EPSILON), 1 / norm.clamp_min(EPSILON), 0)
    gradient = between.image.mul_(between.scale * inter * inverse)  # in place: a fresh K x D matrix costs more than the arithmetic
    gradient.addcmul_(unit, (between.on_unit * inter - along) * inverse)
    gradient.addcmul_(running_mean, slope / running_norm * inverse)
    return PriorObjective(value_intra, between.value, gradient)


def _row_products(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of each pair of rows (K, 1)."""
    return torch.linalg.vecdot(first, second)[:, None]


class _Between(NamedTuple):
    """L_inter, and the direction ``scale · image + on_unit · unit`` that it pulls the unit rows against.

    ``diagonal`` (K, 1) holds each row's product with itself, 1 or 0, and ``alignment`` (K, 1) its product with its ``image`` row.
    """

    value: Tensor
    image: Tensor
    scale: Tensor
    on_unit: Tensor
    diagonal: Tensor
    alignment: Tensor


def _between(unit: Tensor, pairs: Tensor, squared: bool) -> _Between:
    """The part of the objective between classes.

    The diagonal is subtracted as measured, not as the number of classes: a zero row has no 1 on it.
    """
    diagonal = _row_products(unit, unit)
    if not squared:
        total = unit.sum(dim=0, keepdim=True)
        alignment = unit @ total.T
        scale = 2 / pairs
        return _Between((alignment - diagonal).sum() / pairs, total.repeat(len(unit), 1), scale, -scale, diagonal, alignment)
    classes, width = unit.shape
    if classes <= width:
        gram = unit @ unit.T
        image = gram @ unit
        alignment = _row_products(gram, gram)
    else:
        image = unit @ (unit.T @ unit)
        alignment = _row_products(image, unit)
    value = (alignment - diagonal.square()).sum() / pairs
    scale = 4 / pairs
    return _Between(value, image, scale, -scale * diagonal, diagonal, alignment)


def adam_update(
    parameter: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    updates: int,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """One step of Adam (Kingma & Ba 2015, as ``torch.optim.Adam``), in place on ``parameter`` and both moments.

    Args:
        parameter: What to move, any shape.
        gradient: Its gradient.
        exp_avg: First moment.
        exp_avg_sq: Second moment.
        updates: How many updates there have been, this one included.
        lr: Learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: Added to the denominator.
    """
    exp_avg.lerp_(gradient, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    denominator = exp_avg_sq.sqrt().div_((1 - beta2**updates) ** 0.5).add_(eps)
    parameter.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**updates))
