"""Penalties on how far each layer is from where it started, in the norms of the projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from holdfast.checks import check_same_shape
from holdfast.errors import ShapeError

__all__ = ["infop_penalty"]


def infop_penalty(weights: Sequence[Tensor], starts: Sequence[Tensor] | None = None) -> Tensor:
    """``Σ_layers max_i Σ_j |W_ij - S_ij|``: the largest row sum of each layer's difference, added up.

    Ju et al., ICML 2022, the soft form of the norm ``inf-op``. A vector, such as the scales of a BatchNorm layer, counts with its largest
    magnitude, as the diagonal of a matrix. The gradient is that of the largest row alone (the first of several), its signs; where the
    difference is 0 it is 0. It can be differentiated once.

    Args:
        weights: Tensors (out, ...), at least one.
        starts: Tensors of the same shapes, which receive no gradient; None for zeros.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: The two sequences do not match.

    Example:
        >>> infop_penalty([torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([0.25, -4.0])])
        tensor(7.)
    """
    if not weights:
        raise ShapeError("weights must hold at least one tensor, got none.")
    if starts is not None:
        if len(weights) != len(starts):
            raise ShapeError(f"weights and starts must match one to one, got {len(weights)} and {len(starts)} tensors.")
        for number, (weight, start) in enumerate(zip(weights, starts, strict=True)):
            check_same_shape(f"weights[{number}]", weight, f"starts[{number}]", start)
    origins: Sequence[Tensor | None] = starts or [None] * len(weights)
    value: Tensor = torch.stack([_LargestRow.apply(*pair) for pair in zip(weights, origins, strict=True)]).sum()
    return value


class _LargestRow(torch.autograd.Function):
    """Autograd's own graph would keep the signs of all rows; only those of one are needed."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor, start: Tensor | None) -> Tensor:
        difference = weight if start is None else weight - start
        magnitudes = difference.abs()
        sums = magnitudes.sum(dim=tuple(range(1, weight.ndim))) if weight.ndim > 1 else magnitudes
        largest = sums.argmax().reshape(1)
        ctx.save_for_backward(weight, largest, difference.index_select(0, largest).sign())
        return sums.index_select(0, largest).squeeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, largest, signs = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.zeros_like(weight).index_copy_(0, largest, signs * grads[0]), None
