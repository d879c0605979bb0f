"""Largest eigenvalues, and the density of all of them, by Lanczos."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.measures.lanczos import Lanczos, Operator, keeping
from holdfast.measures.measurement import Budget, Measurement, Meter
from holdfast.measures.probes import draw_probe

__all__ = ["Eigenpairs", "SpectralDensity", "spectral_density", "top_eigenvalues"]

WIDTH = 0.01
"""Usual width of the bump that stands for an eigenvalue in a density, in units of the width of the spectrum."""

GRID = 512


@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenvalues, in the order asked for.

    ``values`` (k,) and ``residuals`` (k,), where an eigenvalue lies within its residual of each value; ``vectors`` (P, k) of unit length;
    ``met`` whether all residuals reached the tolerance.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    vectors: Tensor
    products: int
    seconds: float
    met: bool


def top_eigenvalues(
    operator: Operator,
    k: int = 5,
    *,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    rtol: float = 1e-3,
    max_steps: int = 200,
    seed: int = 0,
    start: Tensor | None = None,
    budget: Budget | None = None,
) -> Eigenpairs:
    """Extreme eigenvalues by Lanczos with full re-orthogonalisation; memory P × steps.

    One start vector finds one copy of an eigenvalue that occurs several times.

    Args:
        operator: A symmetric matrix.
        k: How many, from 1 to P; fewer come back where the start vector's Krylov space is smaller.
        which: ``largest`` first, ``smallest`` (most negative) first, or of largest ``magnitude`` first.
        rtol: Largest residual, relative to the largest magnitude among the Ritz values.
        max_steps: Most products.
        seed: Seed of the random start vector.
        start: A start vector (P,) instead of a random one.
        budget: Limit in products or seconds.

    Raises:
        ConfigError: ``k`` is out of range, or the budget too small for one product.

    Example:
        >>> top_eigenvalues(torch.diag(torch.arange(6.0).double()), 2).values
        (5.0..., 4.0...)
    """
    size = operator.shape[0]
    if not 1 <= k <= size:
        raise ConfigError(f"k must be from 1 to {size}, the number of weights, got {k}.")
    meter = Meter(budget, operator, getattr(operator, "comm", None))
    lanczos = Lanczos(draw_probe(operator, seed, 0, "gaussian") if start is None else start)
    steps = min(max_steps, size)
    met = False
    with keeping(operator):
        while not met and not lanczos.exhausted and len(lanczos.alpha) < steps and meter.allows():
            lanczos.advance(operator @ lanczos.vector)
            meter.add()
            values, vectors = lanczos.eigh()
            chosen = _order(values, which)[:k]
            residuals = lanczos.residuals(vectors)[chosen]
            met = len(chosen) == k and bool((residuals <= rtol * np.abs(values).max()).all())
    if not lanczos.alpha:
        raise ConfigError("budget: it does not allow a single product.")
    ritz = lanczos.combine(torch.as_tensor(vectors[:, chosen], dtype=operator.dtype, device=operator.device))
    return Eigenpairs(
        tuple(values[chosen].tolist()), tuple(residuals.tolist()), ritz, meter.products, meter.seconds, met or lanczos.exhausted
    )


def _order(values: NDArray[np.float64], which: str) -> NDArray[np.intp]:
    keys = {"largest": -values, "smallest": values, "magnitude": -np.abs(values)}
    return np.argsort(keys[which], kind="stable")


@dataclass(frozen=True)
class SpectralDensity:
    """The eigenvalues of a matrix (P, P) as seen from ``n`` random vectors, each with its nodes and their weights, which sum to 1.

    ``nodes``, ``weights`` and ``residuals`` have one array for each vector: an eigenvalue lies within its residual of each node.
    ``earlier`` has the nodes and weights of each vector after three quarters of its steps, which are the same where it is exact.
    ``density`` on ``grid``, with bumps of standard deviation ``sigma``, has integral 1.
    """

    size: int
    nodes: tuple[NDArray[np.float64], ...]
    weights: tuple[NDArray[np.float64], ...]
    residuals: tuple[NDArray[np.float64], ...]
    earlier: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    grid: NDArray[np.float64]
    density: NDArray[np.float64]
    sigma: float
    products: int
    seconds: float
    met: bool

    def extreme(self, k: int, *, largest: bool = True) -> list[tuple[float, float]]:
        """The ``k`` largest eigenvalues, or the smallest, each with its residual; fewer where there are not so many nodes.

        A node never lies beyond the eigenvalue that it stands for, so of the vectors the one that reached furthest counts.
        """
        order = slice(None, None, -1 if largest else 1)
        ends = [list(zip(nodes[order][:k], rest[order][:k], strict=True)) for nodes, rest in zip(self.nodes, self.residuals, strict=True)]
        furthest = max if largest else min
        best = [furthest(place) for place in zip(*ends, strict=False)]
        return [(float(node), float(residual)) for node, residual in best]

    def trace_of(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Measurement:
        """Tr f(A), the sum of f over all eigenvalues; the error is that of the random vectors."""
        pairs = zip(self.nodes, self.weights, strict=True)
        samples = np.array([self.size * float(weights @ function(nodes)) for nodes, weights in pairs])
        stderr = float(samples.std(ddof=1) / math.sqrt(len(samples))) if len(samples) > 1 else math.inf
        return Measurement(float(samples.mean()), stderr, self.products, self.seconds, self.met)

    def change_of(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """By how much the value of :meth:`trace_of` moved in the last quarter of the steps.

        A recursion is exact for polynomials of low degree alone, and the positive part of a spectrum that is dense around 0 settles
        slowly: that error comes on top of the one of the random vectors.
        """
        now, then = (
            np.mean([weights @ function(nodes) for nodes, weights in pairs])
            for pairs in (zip(self.nodes, self.weights, strict=True), self.earlier)
        )
        return self.size * float(abs(now - then))

    @property
    def trace(self) -> Measurement:
        """Sum of the eigenvalues."""
        return self.trace_of(lambda values: values)

    @property
    def positive_trace(self) -> Measurement:
        """Sum of the positive eigenvalues, Tr A⁺."""
        return self.trace_of(lambda values: values.clip(min=0))

    @property
    def negative_trace(self) -> Measurement:
        """Sum of the negative eigenvalues, at most 0."""
        return self.trace_of(lambda values: values.clip(max=0))

    @property
    def negative_mass(self) -> float:
        """Share of the eigenvalues that are negative, from 0 to 1."""
        return float(np.mean([weights[nodes < 0].sum() for nodes, weights in zip(self.nodes, self.weights, strict=True)]))

    @property
    def effective_rank(self) -> float:
        """Tr(A⁺)² / ‖A‖_F², 0 for a zero matrix."""
        squares = self.trace_of(np.square).value
        return self.positive_trace.value**2 / squares if squares else 0.0


def spectral_density(
    operator: Operator,
    *,
    steps: int | None = None,
    probes: int = 5,
    sigma: float | None = None,
    grid: NDArray[np.float64] | None = None,
    seed: int = 0,
    starts: Sequence[Tensor] | None = None,
    budget: Budget | None = None,
) -> SpectralDensity:
    """Spectral density by stochastic Lanczos quadrature.

    Exact for polynomials of degree 2·steps - 1, but for the noise of the random vectors.

    Args:
        operator: A symmetric matrix.
        steps: Lanczos steps for each vector; None takes 80, or 50 below 100 000 weights.
        probes: Number of random vectors.
        sigma: Standard deviation of the bumps; None takes 0.01 of the width of the spectrum.
        grid: Where the density is evaluated; None takes 512 points over the spectrum with a margin.
        seed: Seed of the random vectors.
        starts: Vectors (P,) instead of random ones, of any length.
        budget: Limit in products or seconds; vectors that are not finished within it are left out.

    Raises:
        ConfigError: The budget is too small for one vector.
    """
    size = operator.shape[0]
    steps = min(size, steps or (80 if size >= 100_000 else 50))
    meter = Meter(budget, operator, getattr(operator, "comm", None))
    wanted = list(range(probes if starts is None else len(starts)))
    found = []
    with keeping(operator):
        for number in wanted:
            if not meter.allows(steps):
                break
            lanczos = Lanczos(draw_probe(operator, seed, number) if starts is None else starts[number])
            while not lanczos.exhausted and len(lanczos.alpha) < steps:
                lanczos.advance(operator @ lanczos.vector)
                meter.add()
            values, vectors = lanczos.eigh()
            sooner, their_vectors = (values, vectors) if lanczos.exhausted else lanczos.eigh(max(1, 3 * len(values) // 4))
            found.append((values, np.square(vectors[0]), lanczos.residuals(vectors), (sooner, np.square(their_vectors[0]))))
    if not found:
        raise ConfigError(f"budget: {steps} products, one random vector, do not fit into it; raise it or lower steps.")
    nodes, weights, residuals, earlier = zip(*found, strict=True)
    low, high = min(map(np.min, nodes)), max(map(np.max, nodes))
    width = sigma if sigma is not None else WIDTH * (high - low) or WIDTH * max(abs(high), 1.0)
    points = grid if grid is not None else np.linspace(low - 5 * width, high + 5 * width, GRID)
    density = np.mean([_bumps(points, *pair, width) for pair in zip(nodes, weights, strict=True)], axis=0)
    met = len(found) == len(wanted)
    return SpectralDensity(size, nodes, weights, residuals, earlier, points, density, width, meter.products, meter.seconds, met)


def _bumps(grid: NDArray[np.float64], nodes: NDArray[np.float64], weights: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    heights = np.exp(-0.5 * np.square((grid[:, None] - nodes) / sigma)) / (sigma * math.sqrt(2 * math.pi))
    return heights @ weights
