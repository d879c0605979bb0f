"""Projections of a layer's weights onto a ball around where they started.

A weight has one row for each output, ``(out, ...)``; with ``start=None`` the ball is around zero. The functions without an underscore at
the end return a new tensor, those with one change the weight and are what a training step calls, without gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from holdfast.checks import check_same_shape
from holdfast.errors import ShapeError
from holdfast.types import Comm

__all__ = [
    "BATCHNORM_EPS",
    "frob_distance",
    "project_batchnorm",
    "project_frob",
    "project_frob_",
    "project_frob_all_",
    "project_infop",
    "project_infop_",
    "project_infop_exact",
    "project_infop_exact_",
    "row_sums",
]

BLOCK = 1 << 18
"""Entries of a difference that are held at a time: few enough for the processor's cache, and for a sum in float32 to be exact to 1e-6."""

BATCHNORM_EPS = 1e-6
"""Added to the variances of BatchNorm layers, as in the release of Ju et al., whatever the layer's own is."""

MOST_STEPS = 100
"""Newton steps for the threshold of a row, which take about five."""

HALF = (torch.float16, torch.bfloat16)


def project_frob(weight: Tensor, start: Tensor | None, radius: float) -> Tensor:
    """The nearest tensor with ``‖W - S‖_F <= radius``.

    Gouk et al., ICLR 2021, and Ju et al., ICML 2022: D = W - S becomes ``D · min(1, radius / ‖D‖_F)``. Inside the ball nothing changes,
    to the bit; with radius 0 the result is S.

    Args:
        weight: W, of any shape.
        start: S of the same shape, or None for 0.
        radius: At least 0.

    Returns:
        The projected weight; no gradient flows through it.

    Raises:
        ShapeError: The shapes differ, or ``radius`` is negative.

    Example:
        >>> project_frob(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), 1.0)
        tensor([[0.6000, 0.8000]])
    """
    projected, start = _checked(weight, start, radius)
    project_frob_(projected, start, radius)
    return projected


def project_infop(weight: Tensor, start: Tensor | None, radius: float | Tensor, *, rows: int = 1) -> Tensor:
    """A tensor near by with ``Σ_j |W_ij - S_ij| <= radius`` in each row i, by scaling rows.

    Ju et al., ICML 2022, the norm ``inf-op``: each row of D = W - S becomes ``D_i · min(1, radius / ‖D_i‖₁)``. That is feasible and
    cheap, and not the nearest such tensor, which :func:`project_infop_exact` gives. Rows inside the ball do not change.

    Args:
        weight: W (out, ...).
        start: S of the same shape, or None for 0.
        radius: At least 0; one number, or one for each row.
        rows: How many leading axes count rows.

    Returns:
        The projected weight; no gradient flows through it.

    Raises:
        ShapeError: The shapes differ, or ``radius`` is negative.

    Example:
        >>> project_infop(torch.tensor([[1.0, -3.0], [0.5, 0.0]]), None, 1.0)
        tensor([[ 0.2500, -0.7500],
                [ 0.5000,  0.0000]])
    """
    projected, start = _checked(weight, start, radius)
    project_infop_(projected, start, radius, rows=rows)
    return projected


def project_infop_exact(weight: Tensor, start: Tensor | None, radius: float | Tensor, *, rows: int = 1) -> Tensor:
    """The nearest tensor with ``Σ_j |W_ij - S_ij| <= radius`` in each row i.

    The Euclidean projection of each row of D = W - S onto the l1 ball (Duchi et al., ICML 2008): entries shrink by a threshold of their
    row, and those below it return to S exactly. Arguments and errors are those of :func:`project_infop`.

    Example:
        >>> project_infop_exact(torch.tensor([[1.0, -3.0], [0.5, 0.0]]), None, 1.0)
        tensor([[ 0.0000, -1.0000],
                [ 0.5000,  0.0000]])
    """
    projected, start = _checked(weight, start, radius)
    project_infop_exact_(projected, start, radius, rows=rows)
    return projected


def project_batchnorm(
    scale: Tensor, variance: Tensor, start_scale: Tensor, start_variance: Tensor, radius: float | Tensor, *, eps: float = BATCHNORM_EPS
) -> Tensor:
    """The scales γ with which a BatchNorm layer, as the diagonal matrix it multiplies by, stays near its start.

    Ju et al., ICML 2022, as in their release (Robust-Fine-Tuning, commit 55a1e5c): with ``d = γ / √(variance + eps)`` and its start
    ``d_s``, each channel's ``d - d_s`` is clamped to ``± radius`` by itself, whatever the norm of the other layers, and γ follows. The
    release takes 1e-6 for ``eps``, not the layer's own.

    Args:
        scale: γ (C,).
        variance: Running variance (C,) now.
        start_scale: γ (C,) at the start.
        start_variance: Running variance (C,) at the start.
        radius: At least 0; one number, or one for each channel.
        eps: Added to the variances.

    Returns:
        γ (C,), unchanged in channels inside their ball.

    Example:
        >>> project_batchnorm(torch.tensor([3.0, 1.5]), torch.ones(2), torch.ones(2), torch.ones(2), 1.0, eps=0.0)
        tensor([2.0000, 1.5000])
    """
    root = (variance + eps).sqrt()
    start = start_scale / (start_variance + eps).sqrt()
    move = scale / root - start
    bound = torch.as_tensor(radius, dtype=move.dtype, device=move.device)
    return torch.where(move.abs() > bound, (move.clamp(-bound, bound) + start) * root, scale)


def project_frob_(weight: Tensor, start: Tensor | None, radius: float) -> float:
    """:func:`project_frob` in place; returns the distance there was, which waits for the device."""
    distance = frob_distance(weight, start)
    if distance > radius:
        _pull_(weight, start, _pull_of(radius / distance, widen(weight[:0]).dtype))
    return distance


def project_frob_all_(weights: Sequence[Tensor], starts: Sequence[Tensor | None], radii: Tensor, comm: Comm | None = None) -> Tensor:
    """:func:`project_frob` of many tensors in place, without waiting for the device.

    Args:
        weights: N tensors on one device.
        starts: Their starts.
        radii: Shape (N,).
        comm: Where the tensors are this rank's parts of larger ones, how to reach the other parts.

    Returns:
        The distances there were (N,).
    """
    origins = [torch.zeros_like(weight) if start is None else start for weight, start in zip(weights, starts, strict=True)]
    differences = torch._foreach_sub([widen(weight) for weight in weights], [widen(origin) for origin in origins])
    distances = torch.stack([norm.to(radii) for norm in torch._foreach_norm(differences)])
    if comm is not None:
        distances = comm.sum(distances.square()).sqrt()
    for weight, start, distance, radius in zip(weights, starts, distances, radii, strict=True):
        _pull_(weight, start, _pulls_of(distance, radius, widen(weight[:0]).dtype))
    return distances


def project_infop_(weight: Tensor, start: Tensor | None, radius: float | Tensor, *, rows: int = 1) -> Tensor:
    """:func:`project_infop` in place; returns the sums of the rows there were."""
    sums = row_sums(weight, start, rows=rows)
    _pull_(weight, start, _pulls_of(_beside(sums, weight), _beside(radius, weight), sums.dtype))
    return sums


def project_infop_exact_(weight: Tensor, start: Tensor | None, radius: float | Tensor, *, rows: int = 1) -> Tensor:
    """:func:`project_infop_exact` in place; returns the sums of the rows there were."""
    ordered, origin = _in_memory_order(weight, start)
    matrix, origins = (None if tensor is None else tensor.flatten(rows).flatten(0, rows - 1) for tensor in (ordered, origin))
    assert matrix is not None
    bound = torch.as_tensor(radius, dtype=widen(weight[:0]).dtype, device=weight.device).expand(weight.shape[:rows]).flatten()
    # A processor goes through the rows several times while they are in its cache; another device takes all at once.
    size = max(1, BLOCK // max(1, matrix.shape[1])) if weight.device.type == "cpu" else len(matrix)
    parts = [None] * len(matrix.split(size)) if origins is None else origins.split(size)
    sums = torch.cat([_project_rows_(*part) for part in zip(matrix.split(size), parts, bound.split(size), strict=True)])
    if matrix.data_ptr() != weight.data_ptr():  # no view of it has one row for each output
        ordered.copy_(matrix.view_as(ordered))
    return sums.view(weight.shape[:rows])


def frob_distance(weight: Tensor, start: Tensor | None) -> float:
    """``‖W - S‖_F``, or ``‖W‖_F`` without a start, to the precision of float32 at least.

    In one pass, a block at a time: the norm of all entries at once loses digits in float32 where there are millions.
    """
    total = 0.0
    buffer = torch.empty(min(BLOCK, weight.numel()), dtype=widen(weight[:0]).dtype, device=weight.device)
    for part, origin in zip(*_blocks(weight, start), strict=True):
        difference = widen(part) if origin is None else torch.sub(widen(part), widen(origin), out=buffer[: len(part)])
        total += float(torch.dot(difference, difference))
    return math.sqrt(total)


def row_sums(weight: Tensor, start: Tensor | None, *, rows: int = 1) -> Tensor:
    """``Σ_j |W_ij - S_ij|`` for each row i, float32 or wider; rows are counted by the first ``rows`` axes."""
    magnitudes = widen(weight).abs() if start is None else (widen(weight) - widen(start)).abs_()
    return magnitudes.sum(dim=tuple(range(rows, weight.ndim)))


def widen(tensor: Tensor) -> Tensor:
    """A half-precision tensor in float32; others as they are."""
    return tensor.float() if tensor.dtype in HALF else tensor


def _blocks(weight: Tensor, start: Tensor | None) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
    """Both in blocks of entries, in the order in which they lie in memory where that is one order."""
    weight, start = _in_memory_order(weight, start)
    parts = weight.reshape(-1).split(BLOCK)
    return parts, [None] * len(parts) if start is None else start.reshape(-1).split(BLOCK)


def _in_memory_order(weight: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Views of both with their axes in the order of memory, where maps lie with their channels last."""
    if any(
        tensor.ndim != 4 or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last)
        for tensor in (weight, start)
        if tensor is not None
    ):
        return weight, start
    return weight.permute(0, 2, 3, 1), None if start is None else start.permute(0, 2, 3, 1)


def _pull_of(scale: float, dtype: torch.dtype) -> float:
    """Which part of the way to S leaves ``scale`` of D.

    Larger by a rounding error: where little of D is to be left, a part of the way rounded down would leave too much.
    """
    return min(1.0, 1.0 - scale + torch.finfo(dtype).eps)


def _pulls_of(distance: Tensor, radius: Tensor, dtype: torch.dtype) -> Tensor:
    """:func:`_pull_of` for tensors, 0 inside the ball."""
    pulls = (1 - radius / distance + torch.finfo(dtype).eps).clamp(max=1)
    return torch.where(distance > radius, pulls, 0).to(dtype)


def _pull_(weight: Tensor, start: Tensor | None, pull: float | Tensor) -> None:
    """Go this part of the way to S; 0 changes nothing, and 1 is S, to the bit."""
    if weight.dtype in HALF:
        whole = widen(weight)
        _pull_(whole, None if start is None else widen(start), pull)
        weight.copy_(whole)
    elif start is None:
        weight.mul_(1 - pull)
    else:
        weight.lerp_(start, pull)


def _beside(values: float | Tensor, weight: Tensor) -> Tensor:
    """A number, or one for each row, in a shape that goes with the weight."""
    if not isinstance(values, Tensor):
        return torch.tensor(values, dtype=widen(weight[:0]).dtype, device=weight.device)
    return values.reshape(*values.shape, *(1,) * (weight.ndim - values.ndim)) if values.ndim else values


def _project_rows_(weight: Tensor, start: Tensor | None, radius: Tensor) -> Tensor:
    """Project rows (R, n) exactly, in place; returns their sums (R,). Those inside their ball are read and not written."""
    difference = widen(weight) if start is None else widen(weight) - widen(start)
    magnitudes = difference.abs()
    sums = magnitudes.sum(dim=1)
    active = sums > radius
    if active.all():
        shrunk = _shrink(magnitudes, sums, radius).copysign_(difference)
        weight.copy_(shrunk if start is None else shrunk.add_(widen(start)))
    elif active.any():
        shrunk = _shrink(magnitudes[active], sums[active], radius[active]).copysign_(difference[active])
        weight[active] = (shrunk if start is None else shrunk.add_(widen(start[active]))).to(weight.dtype)
    return sums


def _shrink(magnitudes: Tensor, sums: Tensor, radius: Tensor) -> Tensor:
    """``max(|d_j| - t, 0)`` with the t of each row for which they add up to its radius.

    The sum is convex, falling and piecewise linear in t, so Newton's method from t = 0 rises to the root in few steps and stays there. A
    sort of the row gives t too (Duchi et al.), in several times the time. What rounding leaves above the radius is scaled away.

    Args:
        magnitudes: ``|d|`` (R, n), each row with a sum above its radius.
        sums: Those of the rows (R,).
        radius: Shape (R,).
    """
    threshold = (sums - radius) / magnitudes.shape[1]  # the first step, if each entry is at least 0
    tolerance = 4 * torch.finfo(magnitudes.dtype).eps * radius
    shrunk, signs = torch.empty_like(magnitudes), torch.empty_like(magnitudes)
    for _ in range(MOST_STEPS):
        torch.sub(magnitudes, threshold[:, None], out=shrunk).clamp_(min=0)
        sums = shrunk.sum(dim=1)
        if (sums - radius <= tolerance).all():
            break
        # The entries above the threshold; sign and sum take a quarter of the time of count_nonzero.
        count = torch.sign(shrunk, out=signs).sum(dim=1)
        higher = threshold + (sums - radius).clamp(min=0) / count.clamp(min=1)
        if torch.equal(higher, threshold):
            break
        threshold = higher
    return shrunk.mul_(torch.where(sums > radius, radius / sums, 1)[:, None])


def _checked(weight: Tensor, start: Tensor | None, radius: float | Tensor) -> tuple[Tensor, Tensor | None]:
    """A copy of the weight to work on, and the start."""
    if start is not None:
        check_same_shape("weight", weight, "start", start)
    if bool((torch.as_tensor(radius) < 0).any()):
        raise ShapeError(f"radius must be at least 0, got {radius}.")
    return weight.detach().clone(), None if start is None else start.detach()
