"""Trace estimates that find the large eigenvalues first: Hutch++ and XTrace.

They pay where few eigenvalues carry most of the matrix and better than 3 % is wanted; they keep P × m numbers, and estimate no layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.measures.lanczos import Operator, keeping
from holdfast.measures.measurement import Budget, Measurement, Meter
from holdfast.measures.probes import draw_probes

__all__ = ["hutch_plus_plus", "xtrace", "xtrace_values"]


def hutch_plus_plus(
    operator: Operator,
    products: int = 30,
    *,
    seed: int = 0,
    sketch: Tensor | None = None,
    probes: Tensor | None = None,
    budget: Budget | None = None,
) -> Measurement:
    """Trace by Hutch++ (Meyer et al., SOSA 2021): exact on the range of a sketch, Hutchinson's estimate on the rest.

    Args:
        operator: A symmetric matrix (P, P).
        products: How many products, a multiple of 3, at most P of them for each third.
        seed: Seed of sketch and probes.
        sketch: Columns (P, m) to sketch with instead of random signs.
        probes: Columns (P, m) to probe the rest with instead of random signs.
        budget: Lowers ``products`` to what it allows.

    Returns:
        The trace; its standard error is that of the probes. ``met`` says whether the budget allowed all products.

    Raises:
        ConfigError: There are too few products, or more than weights.
    """
    meter = Meter(budget, operator, getattr(operator, "comm", None))
    third = min(products, meter.budget.products or products) // 3
    if sketch is None or probes is None:
        _check(operator, third, least=1, spelled="three times as many products as weights; take the exact trace instead")
        drawn = draw_probes(operator, seed, 2 * third)
        sketch, probes = drawn[:, :third], drawn[:, third:]
    with keeping(operator):
        basis = torch.linalg.qr(_apply(operator, sketch, meter).double()).Q
        found = (basis * _apply(operator, basis.to(sketch.dtype), meter).double()).sum()
        rest = probes.double() - basis @ (basis.T @ probes.double())
        samples = (rest * _apply(operator, rest.to(sketch.dtype), meter).double()).sum(dim=0)
    return Measurement(float(found + samples.mean()), _stderr(samples), meter.products, meter.seconds, third == products // 3)


def xtrace(
    operator: Operator, products: int = 30, *, seed: int = 0, tests: Tensor | None = None, budget: Budget | None = None
) -> Measurement:
    """Trace by XTrace (Epperly, Tropp and Webber, SIMAX 2024): each test vector is left out once and estimates what the others miss.

    Args:
        operator: A symmetric matrix (P, P).
        products: How many products, an even number, two for each test vector.
        seed: Seed of the test vectors.
        tests: Test vectors as columns (P, m) instead of random signs.
        budget: Lowers ``products`` to what it allows.

    Returns:
        The trace, and the standard error by the spread of the m estimates. ``met`` says whether the budget allowed all products.

    Raises:
        ConfigError: There are fewer than two test vectors, or more than weights.
    """
    meter = Meter(budget, operator, getattr(operator, "comm", None))
    half = min(products, meter.budget.products or products) // 2
    if tests is None:
        _check(operator, half, least=2, spelled="twice as many products as weights; take the exact trace instead")
        tests = draw_probes(operator, seed, half)
    with keeping(operator):
        values = _xtrace_values(operator, tests, meter)
    return Measurement(float(values.mean()), _stderr(values), meter.products, meter.seconds, half == products // 2)


def xtrace_values(operator: Operator, tests: Tensor) -> Tensor:
    """The estimates (m,) of XTrace, in float64, each with one of the test vectors (P, m) left out of the basis."""
    return _xtrace_values(operator, tests, Meter(None, operator))


def _xtrace_values(operator: Operator, tests: Tensor, meter: Meter) -> Tensor:
    wide = tests.double()
    image = _apply(operator, tests, meter).double()
    basis, triangle = torch.linalg.qr(image)
    mapped = _apply(operator, basis.to(tests.dtype), meter).double()
    inner = basis.T @ mapped  # Qᵀ A Q
    diagonal = triangle.diagonal().abs()
    if diagonal.min() <= torch.finfo(tests.dtype).eps * len(diagonal) * diagonal.max():
        # The range of A is smaller than the basis, which holds all of it: the trace on the basis is exact.
        return inner.trace().expand(tests.shape[1])
    # Leaving test vector i out takes one direction s_i out of the basis: the i-th column of R⁻ᵀ, normalised.
    identity = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
    left_out = torch.linalg.solve_triangular(triangle.T, identity, upper=False)
    left_out = left_out / left_out.norm(dim=0)
    on_basis = inner.trace() - (left_out * (inner @ left_out)).sum(dim=0)
    inside = basis.T @ wide
    inside = inside - left_out * (left_out * inside).sum(dim=0)  # coordinates of w_i in what is left of the basis
    outside = (wide * image).sum(dim=0) - 2 * ((mapped.T @ wide) * inside).sum(dim=0) + (inside * (inner @ inside)).sum(dim=0)
    return on_basis + outside


def _apply(operator: Operator, columns: Tensor, meter: Meter) -> Tensor:
    meter.add(columns.shape[1])
    return operator @ columns


def _stderr(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def _check(operator: Operator, columns: int, *, least: int, spelled: str) -> None:
    size = operator.shape[0]
    if columns < least:
        raise ConfigError(f"products: too few are allowed for an estimate; {'3' if least == 1 else '4'} is the least.")
    if columns > size:
        raise ConfigError(f"products: {columns} test vectors for {size} weights are {spelled}.")
