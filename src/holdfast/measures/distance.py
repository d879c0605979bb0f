"""How far each layer of a network is from where it started, in norms of the difference of its weights.

A weight is seen as the matrix D with one row for each output: of a convolution that is its reshaped kernel (outputs, inputs · side · side),
not the map from images to images, whose norms are others. BatchNorm in eval mode multiplies each channel, so it is the diagonal matrix of
γ / √(variance + ε), with ε of the module. Everything is computed in float64, without gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from holdfast.checks import check_matrix
from holdfast.errors import ConfigError, ModelError
from holdfast.measures.lanczos import Lanczos
from holdfast.models.head import find_head
from holdfast.models.select import measured_layers

__all__ = ["Distances", "LayerDistance", "as_matrix", "displacements", "distances", "infop", "nuclear", "spectral"]

EXACT = 512
"""Smaller side of a matrix up to which its singular values are all computed."""

STEPS = 200
"""Steps of the iteration for the largest singular value before all are computed after all."""


@dataclass(frozen=True)
class LayerDistance:
    """Norms of a layer's difference D from its start.

    ``frob`` √(Σ D²), ``infop`` the largest row sum of magnitudes, ``spectral`` the largest singular value. ``form`` says what D is: a
    matrix, a convolution's reshaped kernel, or the diagonal of a BatchNorm, for which the last two are its largest magnitude.
    """

    name: str
    shape: tuple[int, ...]
    form: Literal["matrix", "kernel", "diagonal"]
    frob: float
    infop: float
    spectral: float


@dataclass(frozen=True)
class Distances:
    """Distances of the ``layers``, in the order of the network, and of its ``batchnorm`` layers, which count in no total."""

    layers: tuple[LayerDistance, ...]
    batchnorm: tuple[LayerDistance, ...]

    @property
    def l2_total(self) -> float:
        """Euclidean distance over all layers together."""
        return math.hypot(*(layer.frob for layer in self.layers))

    @property
    def frob_total(self) -> float:
        """Sum of the Frobenius distances of the layers."""
        return math.fsum(layer.frob for layer in self.layers)


def distances(
    net: nn.Module,
    source: Mapping[str, Tensor],
    *,
    layers: Sequence[str] | None = None,
    head: Literal["source", "zero"] = "source",
    head_name: str | None = None,
) -> Distances:
    """Distances of a network from its start, layer by layer.

    Args:
        net: The bare network.
        source: Parameters and buffers at the start, by their names in the network; ``head="source"`` needs the head's initial ones.
        layers: Names of weights; those of :func:`holdfast.models.select.measured_layers` if not given.
        head: What the head, which has no pretrained weight, is measured from.
        head_name: Qualified name of the head; found where not given.

    Raises:
        ConfigError: A name is none of a weight of two or more dimensions.
        ModelError: ``source`` lacks a tensor or has it in another shape, or a value is not finite.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> start = {"0.weight": net[0].weight.detach() - torch.tensor([[3.0, 0.0], [0.0, -4.0]])}
        >>> (layer,) = distances(net, start).layers
        >>> layer.name, round(layer.frob, 5), round(layer.infop, 5), round(layer.spectral, 5)
        ('0.weight', 5.0, 4.0, 4.0)
    """
    moves = displacements(net, source, layers=layers, head=head, head_name=head_name)
    return Distances(tuple(_of_weight(net, name, move) for name, move in moves.items()), tuple(_of_batchnorms(net, source)))


def displacements(
    net: nn.Module,
    source: Mapping[str, Tensor],
    *,
    layers: Sequence[str] | None = None,
    head: Literal["source", "zero"] = "source",
    head_name: str | None = None,
) -> dict[str, Tensor]:
    """The differences W - Wˢ themselves, float64 on the device of the network, by name and in the shape of the weight.

    With ``head="zero"`` that of the head is W. Arguments and errors are those of :func:`distances`.
    """
    names = measured_layers(net) if layers is None else layers
    head_weight = f"{head_name or find_head(net)}.weight" if head == "zero" else None
    weights = dict(net.named_parameters(remove_duplicate=False))
    moves = {}
    for name in names:
        if name not in weights or weights[name].ndim < 2:
            raise ConfigError(f"layers: {name!r} is no weight of two or more dimensions of the network.")
        weight = weights[name].detach().double()
        moves[name] = _finite(name, weight if name == head_weight else weight - _start_of(name, weight, source))
    return moves


def _start_of(name: str, value: Tensor, source: Mapping[str, Tensor]) -> Tensor:
    """A tensor of the source that fits ``value``."""
    if name not in source:
        raise ModelError(
            f"the source has no {name!r}, so the distance from it is not defined; give the weights that this network started from, "
            "with the initial head, or measure the head from zero"
        )
    start = source[name]
    if start.shape != value.shape:
        raise ModelError(
            f"{name} has shape {tuple(value.shape)} in the network and {tuple(start.shape)} in the source, which is of another "
            "architecture or has another head; give the weights that this network started from"
        )
    return start.detach().to(value)


def _finite(name: str, value: Tensor) -> Tensor:
    if not value.isfinite().all():
        raise ModelError(f"{name} has values that are NaN or infinite, in the network or in the source.")
    return value


def _of_weight(net: nn.Module, name: str, move: Tensor) -> LayerDistance:
    owner = net.get_submodule(name.rpartition(".")[0])
    matrix = as_matrix(owner, move)
    form: Literal["matrix", "kernel"] = "kernel" if move.ndim > 2 else "matrix"
    return LayerDistance(name, tuple(move.shape), form, float(matrix.norm()), infop(matrix), spectral(matrix))


def _of_batchnorms(net: nn.Module, source: Mapping[str, Tensor]) -> list[LayerDistance]:
    found = []
    for path, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.affine and module.running_var is not None:
            names = [f"{path}.{name}" if path else name for name in ("weight", "running_var")]
            gamma, variance = module.weight.detach().double(), module.running_var.double()
            start_gamma, start_variance = (_start_of(name, value, source) for name, value in zip(names, (gamma, variance), strict=True))
            move = _finite(names[0], gamma / (variance + module.eps).sqrt() - start_gamma / (start_variance + module.eps).sqrt())
            largest = float(move.abs().max())
            found.append(LayerDistance(names[0], tuple(move.shape), "diagonal", float(move.norm()), largest, largest))
    return found


def as_matrix(layer: nn.Module, weight: Tensor) -> Tensor:
    """A weight, or a difference of two, as a matrix with one row for each output of its layer.

    Args:
        layer: The module that owns it.
        weight: Shape (out, in, ...); (in, out / groups, ...) for a transposed convolution.

    Returns:
        Shape (out, rest).

    Example:
        >>> as_matrix(nn.Conv2d(3, 8, 5), torch.zeros(8, 3, 5, 5)).shape
        torch.Size([8, 75])
    """
    if isinstance(layer, _ConvTransposeNd):
        grouped = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        return grouped.flatten(2).flatten(0, 1)
    return weight.flatten(1)


def infop(matrix: Tensor) -> float:
    """Largest row sum of absolute values: how much the matrix can enlarge the largest entry of a vector.

    Args:
        matrix: Shape (M, N).

    Raises:
        ShapeError: It is no matrix.

    Example:
        >>> infop(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
        3.0
    """
    check_matrix("matrix", matrix, symbols="(M, N)")
    return float(matrix.detach().double().abs().sum(dim=1).max())


def nuclear(matrix: Tensor) -> float:
    """Sum of the singular values of a matrix (M, N).

    Raises:
        ShapeError: It is no matrix.

    Example:
        >>> round(nuclear(torch.tensor([[3.0, 0.0], [0.0, -4.0]])), 6)
        7.0
    """
    check_matrix("matrix", matrix, symbols="(M, N)")
    return float(torch.linalg.svdvals(matrix.detach().double()).sum())


def spectral(matrix: Tensor, *, tolerance: float = 1e-6) -> float:
    """Largest singular value.

    All singular values are computed where a side has no more than 512 entries. For larger matrices a Lanczos iteration from a fixed random
    start, with full reorthogonalisation, goes on until its residual allows a relative error of ``tolerance`` at most; the actual error is
    about the square of that. Where 200 steps do not suffice all are computed after all.

    Args:
        matrix: Shape (M, N), finite.
        tolerance: Relative error allowed.

    Raises:
        ShapeError: It is no matrix.

    Example:
        >>> round(spectral(torch.tensor([[3.0, 0.0], [0.0, -4.0]])), 6)
        4.0
    """
    check_matrix("matrix", matrix, symbols="(M, N)")
    wide = matrix.detach().double()
    found = None if min(wide.shape) <= EXACT else _by_lanczos(wide, tolerance)
    return float(torch.linalg.svdvals(wide)[0]) if found is None else found


def _by_lanczos(matrix: Tensor, tolerance: float) -> float | None:
    """Largest singular value from the Krylov space of the Gram matrix; None where the residual stays too large."""
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    start = torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(0), dtype=matrix.dtype).to(matrix.device)
    recursion = Lanczos(start)
    for _ in range(STEPS):
        recursion.advance(matrix.T @ (matrix @ recursion.vector))
        values, vectors = recursion.eigh()
        # An eigenvalue of the Gram matrix lies within the residual of the Ritz pair; that of its root is half as much, relatively.
        if recursion.residuals(vectors)[-1] <= 2 * tolerance * values[-1]:
            return math.sqrt(max(float(values[-1]), 0.0))
    return None
