"""The penalty of DELTA: how far the maps of a network are from those of the pretrained one, each channel by its importance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_same_shape
from holdfast.errors import ShapeError

__all__ = ["channel_attention", "map_distance"]

Reduction = Literal["sum", "mean"]


def map_distance(
    maps: Sequence[Tensor],
    reference: Sequence[Tensor],
    *,
    attention: Sequence[Tensor] | None = None,
    channel_axes: Sequence[int] | None = None,
    reduction: Reduction = "sum",
) -> Tensor:
    """Half the squared distance between two sets of maps, summed over layers.

    Li et al., ICLR 2019 (DELTA), in the form of Transfer-Learning-Library (commit c4aa59e), for the layers j::

        plain:     ½ Σ_j ‖F_j - F⁰_j‖²
        attention: ½ Σ_j C_j / (H_j W_j) Σ_c a_{j,c} ‖F_{j,c} - F⁰_{j,c}‖²

    with sums over the batch too. With ``a = H W / C`` for every channel the second is the first.

    Args:
        maps: For each layer a map with the batch first, such as (B, C, H, W) or (B, tokens, C), float32 or wider.
        reference: The same of the pretrained network; no gradient flows into them.
        attention: For each layer the weight ``a`` (C,) of its channels; H W is then the number of positions, such as tokens.
        channel_axes: For each layer the axis of the channels; 1 unless given. Only used with ``attention``.
        reduction: ``"sum"`` over the batch, or ``"mean"``, the sum divided by B.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: The sequences, the maps or the attention do not match.

    Example:
        >>> maps, reference = [torch.full((2, 1, 2, 2), 3.0)], [torch.ones(2, 1, 2, 2)]
        >>> map_distance(maps, reference), map_distance(maps, reference, attention=[torch.ones(1)], reduction="mean")
        (tensor(16.), tensor(2.))
    """
    if not maps or len(maps) != len(reference):
        raise ShapeError(f"maps and reference must match one to one and hold at least one layer, got {len(maps)} and {len(reference)}.")
    if attention is not None and len(attention) != len(maps):
        raise ShapeError(f"attention must hold one vector for each of the {len(maps)} layers, got {len(attention)}.")
    for number, (live, frozen) in enumerate(zip(maps, reference, strict=True)):
        check_same_shape(f"maps[{number}]", live, f"reference[{number}]", frozen)
    if attention is None:
        # Not a square of a difference: this keeps no map but those that are kept anyway, and its gradient takes one pass.
        parts = [F.mse_loss(live, frozen.detach(), reduction="sum") for live, frozen in zip(maps, reference, strict=True)]
    else:
        axes = channel_axes or [1] * len(maps)
        parts = [_attended(*layer) for layer in zip(maps, reference, attention, axes, strict=True)]
    total = torch.stack(parts).sum() / 2
    return total if reduction == "sum" else total / len(maps[0])


def _attended(maps: Tensor, reference: Tensor, attention: Tensor, axis: int) -> Tensor:
    """``C / (H W) Σ_c a_c ‖F_c - F⁰_c‖²``."""
    if not 0 < axis < maps.ndim or attention.shape != maps.shape[axis : axis + 1]:
        raise ShapeError(
            f"attention {tuple(attention.shape)} must hold a weight for each channel, axis {axis} of maps {tuple(maps.shape)}."
        )
    others = [other for other in range(maps.ndim) if other != axis]
    by_channel = (maps - reference.detach()).square().sum(others)
    positions = maps[0].numel() // len(attention)
    return len(attention) / positions * (attention.detach() * by_channel).sum()


def channel_attention(gaps: Tensor, *, temperature: float = 5.0) -> Tensor:
    """The weight of each channel of a layer from what the loss gains when it is taken out.

    Li et al., ICLR 2019 (DELTA): ``softmax(standardised gaps / temperature)``, the standard deviation with ddof 0.

    Args:
        gaps: Loss without the channel minus loss with it (C,).
        temperature: Divisor before the softmax.

    Returns:
        Weights (C,) that sum to 1; all equal where the gaps are.

    Example:
        >>> channel_attention(torch.tensor([2.0, 2.0]))
        tensor([0.5000, 0.5000])
    """
    deviation = gaps - gaps.mean()
    std = deviation.square().mean().sqrt()
    differ = std > torch.finfo(gaps.dtype).eps * gaps.abs().max()  # more than the rounding of their mean
    return torch.softmax(torch.where(differ, deviation / std, 0) / temperature, dim=0)
