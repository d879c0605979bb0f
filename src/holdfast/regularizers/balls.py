"""The balls in which a network's layers are held, and the projection onto all of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from holdfast.models.shards import is_spread, own_part
from holdfast.regularizers.held_layers import HeldBatchNorm, HeldLayer, HeldLayers
from holdfast.regularizers.projections import (
    BATCHNORM_EPS,
    frob_distance,
    project_batchnorm,
    project_frob_,
    project_frob_all_,
    project_infop_,
    project_infop_exact_,
    row_sums,
)
from holdfast.types import Comm

__all__ = ["Balls", "Norm"]

Norm = Literal["frob", "infop", "infop_exact"]


class _Ball(NamedTuple):
    """A layer and the radius of its ball, which for the norms of rows may differ from row to row."""

    held: HeldLayer
    radius: float | Tensor


class Balls:
    """The balls of all held layers of a network.

    Args:
        held: The layers; their numbers are radii.
        norm: That of the layers' balls; BatchNorm layers are bounded channel by channel whatever it is.
        relative: Whether the numbers are multiples of the norm of the start.
        head_radius: Radius of what is new, around 0; None to leave it alone.
        comm: Communication between ranks, which may hold parts of the weights; the norm must be ``frob`` then.
    """

    def __init__(self, held: HeldLayers, norm: Norm, *, relative: bool, head_radius: float | None, comm: Comm) -> None:
        self._norm = norm
        self._balls = [_Ball(layer, _radius(layer, norm, comm, relative=relative)) for layer in held.layers]
        if head_radius is not None:
            self._balls += [_Ball(layer, head_radius) for layer in held.new]
        self._batchnorms = _BatchNormBalls(held.batchnorms, relative=relative) if held.batchnorms else None
        self.names = tuple(ball.held.name for ball in self._balls) + tuple(layer.name for layer in held.batchnorms)

    def project(self, comm: Comm) -> Tensor:
        """Bring every layer back into its ball, in place.

        Returns:
            Shape (3, L), in the order of ``names``: distance now, radius, and the share of the layer that was outside. For the norms of
            rows the first two are the largest over rows, for BatchNorm over channels.
        """
        by_frob = self._norm == "frob"
        found = [_project_frob(self._balls, comm) if by_frob else _project_rows(self._balls, exact=self._norm == "infop_exact")]
        if self._batchnorms is not None:
            found.append(self._batchnorms.project(comm))
        return torch.cat([part for part in found if part is not None], dim=1)


def _radius(held: HeldLayer, norm: Norm, comm: Comm, *, relative: bool) -> float | Tensor:
    if not relative:
        return held.number
    assert held.start is not None
    if norm == "frob" and is_spread(held.weight):
        square = torch.tensor(frob_distance(held.start, None) ** 2, dtype=torch.float64, device=held.start.device)
        return held.number * math.sqrt(float(comm.sum(square)))
    if norm == "frob":
        return held.number * frob_distance(held.start, None)
    return held.number * row_sums(held.by_row(held.start), None, rows=held.rows)


def _project_frob(balls: Sequence[_Ball], comm: Comm) -> Tensor | None:
    if not balls:
        return None
    spread = is_spread(balls[0].held.weight)
    weights, starts = [own_part(ball.held.weight) for ball in balls], [ball.held.start for ball in balls]
    radii = torch.tensor([ball.radius for ball in balls], dtype=torch.float64)
    if weights[0].device.type == "cpu" and not spread:
        # One layer after the other, in the processor's cache; those inside their ball are read and not written.
        distances = torch.tensor(
            [project_frob_(*layer) for layer in zip(weights, starts, radii.tolist(), strict=True)], dtype=torch.float64
        )
    else:
        radii = radii.to(weights[0].device, torch.promote_types(weights[0].dtype, torch.float32), non_blocking=True)
        distances = project_frob_all_(weights, starts, radii, comm if spread else None)
    return torch.stack([torch.minimum(distances, radii), radii, (distances > radii).to(radii)])


def _project_rows(balls: Sequence[_Ball], *, exact: bool) -> Tensor | None:
    project = project_infop_exact_ if exact else project_infop_
    columns = []
    for held, radius in balls:
        start = None if held.start is None else held.by_row(held.start)
        sums = project(held.by_row(held.weight), start, radius, rows=held.rows)
        radii = torch.as_tensor(radius, dtype=sums.dtype, device=sums.device).expand_as(sums)
        columns.append(torch.stack([torch.minimum(sums, radii).max(), radii.max(), (sums > radii).to(sums).mean()]))
    return torch.stack(columns, dim=1) if columns else None


class _BatchNormBalls:
    """Those of all BatchNorm layers, as one vector of channels."""

    def __init__(self, layers: Sequence[HeldBatchNorm], *, relative: bool) -> None:
        self._layers = layers
        self._sizes = [len(layer.start) for layer in layers]
        self._start = torch.cat([layer.start for layer in layers])
        self._start_variance = torch.cat([layer.start_variance for layer in layers])
        numbers = torch.cat([torch.full_like(layer.start, layer.number) for layer in layers])
        self._radii = numbers * self._diagonal(self._start, self._start_variance).abs() if relative else numbers

    @staticmethod
    def _diagonal(scale: Tensor, variance: Tensor) -> Tensor:
        return scale / (variance + BATCHNORM_EPS).sqrt()

    def project(self, comm: Comm) -> Tensor:
        scales: list[Tensor] = [held.layer.weight for held in self._layers]
        # Statistics may differ from rank to rank, and what they decide here may not.
        variance = comm.broadcast(torch.cat([held.variance for held in self._layers]).to(self._start))
        before = torch.cat(scales).to(self._start)
        after = project_batchnorm(before, variance, self._start, self._start_variance, self._radii)
        torch._foreach_copy_(scales, after.split(self._sizes))
        moves = (self._diagonal(after, variance) - self._diagonal(self._start, self._start_variance)).abs()
        channels = torch.stack([moves, self._radii, (before != after).to(moves)])
        return torch.stack([torch.cat([part[:2].amax(dim=1), part[2:].mean(dim=1)]) for part in channels.split(self._sizes, dim=1)], dim=1)
