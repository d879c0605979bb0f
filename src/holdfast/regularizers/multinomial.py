"""Multinomial logistic regression without intercept, to its exact minimum.

A truncated Newton method: the gradient is exact, and each direction is found roughly, by conjugate gradients in float32. Near the
minimum it gains digits as fast as it takes steps, where quasi-Newton methods stall at the rounding of the objective.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from holdfast.checks import check_labels, check_matrix

__all__ = ["fit_multinomial"]

log = logging.getLogger("holdfast")

ROUGHLY = 0.1
"""A direction is good enough when the residual of its equation has fallen to this share."""


class _Point(NamedTuple):
    """The objective at some coefficients."""

    value: float
    gradient: Tensor  # (K, P)
    probs: Tensor  # (N, K)

    @property
    def slope(self) -> float:
        """Norm of the gradient."""
        return float(self.gradient.norm())


def fit_multinomial(
    inputs: Tensor,
    labels: Tensor,
    strength: float,
    start: Tensor,
    *,
    enough: Callable[[Tensor, float], bool] = lambda coefficients, distance: False,
    tolerance: float = 1e-11,
    steps: int = 200,
) -> Tensor:
    """The minimiser of ``C Σ_i CE(A x_i, y_i) + ½‖A‖²`` over ``A``.

    The objective is strongly convex with modulus 1, so the norm of its gradient bounds the distance from the minimiser.

    Args:
        inputs: Rows x (N, P), float64.
        labels: Classes (N,) from 0 to K - 1.
        strength: C, the inverse of the usual strength of regularisation.
        start: Coefficients (K, P) to begin with; near the minimiser the fit is short.
        enough: Ends the fit early; is given the coefficients, and a bound on their distance (Frobenius) from the minimiser.
        tolerance: The fit ends when the gradient has fallen to this share of what it is at ``A = 0``.
        steps: Most Newton steps; reaching them is logged.

    Returns:
        A (K, P).

    Raises:
        ShapeError: The inputs are no matrix, or the labels do not fit them.

    Example:
        >>> rows = torch.eye(2, dtype=torch.float64)
        >>> a = fit_multinomial(rows, torch.tensor([0, 1]), 10.0, torch.zeros(2, 2, dtype=torch.float64))
        >>> bool(((a[0] > a[1]) == torch.tensor([True, False])).all())
        True
    """
    check_matrix("inputs", inputs, symbols="(N, P)")
    check_labels(labels, len(inputs))
    rough = inputs.float()
    target = tolerance * _evaluate(inputs, labels, strength, torch.zeros_like(start)).slope
    coefficients, point = start, _evaluate(inputs, labels, strength, start)
    for _ in range(steps):
        if point.slope <= target or enough(coefficients, point.slope):
            return coefficients
        direction = _newton_direction(rough, strength, point)
        moved = _line_search(inputs, labels, strength, coefficients, point, direction)
        if moved is None:  # rounding leaves nothing to gain
            return coefficients
        coefficients, point = moved
    log.warning("multinomial regression with C = %g: %d Newton steps left a gradient of norm %.2g.", strength, steps, point.slope)
    return coefficients


def _evaluate(inputs: Tensor, labels: Tensor, strength: float, coefficients: Tensor) -> _Point:
    logits = inputs @ coefficients.T
    normalizer = logits.logsumexp(dim=1, keepdim=True)
    own = labels[:, None]
    value = strength * (normalizer - logits.gather(1, own)).sum() + coefficients.square().sum() / 2
    probs = (logits - normalizer).exp()
    residual = probs.scatter_add(1, own, -torch.ones_like(probs[:, :1]))
    return _Point(float(value), strength * (residual.T @ inputs) + coefficients, probs)


def _newton_direction(inputs: Tensor, strength: float, point: _Point) -> Tensor:
    """Roughly ``-H⁻¹ g`` by conjugate gradients, preconditioned by the diagonal of the Hessian H."""
    probs = point.probs.to(inputs.dtype)
    diagonal = 1 + strength * ((probs * (1 - probs)).T @ inputs.square())

    def curvature(vector: Tensor) -> Tensor:
        change = inputs @ vector.T
        change = probs * (change - (probs * change).sum(dim=1, keepdim=True))
        return strength * (change.T @ inputs) + vector

    scale = point.slope  # keeps squares in the range of float32
    residual = (point.gradient / -scale).to(inputs.dtype)
    solution, scaled = torch.zeros_like(residual), residual / diagonal
    search, energy = scaled, float((residual * scaled).sum())
    for _ in range(residual.numel()):
        curved = curvature(search)
        length = energy / float((search * curved).sum())
        solution = solution + length * search
        residual = residual - length * curved
        if float(residual.norm()) <= ROUGHLY:
            break
        scaled = residual / diagonal
        before, energy = energy, float((residual * scaled).sum())
        search = scaled + energy / before * search
    return scale * solution.double()


def _line_search(
    inputs: Tensor, labels: Tensor, strength: float, coefficients: Tensor, point: _Point, direction: Tensor
) -> tuple[Tensor, _Point] | None:
    """The longest halving of the direction that lowers the objective by some of what its slope promises.

    Where the promise is below the rounding of the objective, the gradient tells which point is nearer.
    """
    descent = float((point.gradient * direction).sum())
    rounding = 1e-14 * math.sqrt(len(inputs)) * abs(point.value)
    length = 1.0
    while length > 1e-8:
        moved = coefficients + length * direction
        found = _evaluate(inputs, labels, strength, moved)
        promised = 1e-4 * length * descent
        if found.slope < point.slope if -promised <= rounding else found.value <= point.value + promised:
            return moved, found
        length /= 2
    return None
