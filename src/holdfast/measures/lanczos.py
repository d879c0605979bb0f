"""The Lanczos recursion with full re-orthogonalisation, and what its small tridiagonal matrix says of the large one."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from holdfast.measures.sums import dot, dots

__all__ = ["Lanczos", "Operator", "keeping"]

CLEAN = 0.1
"""What is taken out of a vector, in units of what is left, up to which one pass leaves it orthogonal to the basis but for rounding."""

TOGETHER = 8
"""Vectors of a basis whose memory is taken at once."""

BREAKDOWN = {torch.float32: 1e-6, torch.float64: 1e-13}
"""A residual below this, relative to the largest coefficient, is rounding: the space found so far is invariant and exact."""


class Operator(Protocol):
    """A symmetric matrix by its products: a curvature operator, one of its blocks, or a tensor."""

    @property
    def shape(self) -> Any:
        """(P, P)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""

    @property
    def device(self) -> torch.device:
        """Of the vectors."""

    def __matmul__(self, vectors: Tensor, /) -> Tensor:
        """Product with a vector (P,), or with the columns of a matrix."""


def keeping(operator: Operator) -> AbstractContextManager[Any]:
    """Let a curvature operator keep the graph of its batch meanwhile; nothing for others."""
    kept: AbstractContextManager[Any] = operator.keeping() if hasattr(operator, "keeping") else nullcontext()
    return kept


class Lanczos:
    """An orthonormal basis of the Krylov space of a start vector, one product at a time.

    The product is made by the caller, so that several recursions can share a pass over the data: multiply :attr:`vector` and hand the
    result to :meth:`advance`. Each new vector is orthogonalised against all before it, and once more where that took much of it away.

    Args:
        start: Where the basis starts (P,), not zero, of any length.

    Attributes:
        vector: The unit vector that is multiplied next.
        alpha: Diagonal of the tridiagonal matrix T, one entry a step.
        beta: Its off-diagonal, and last the length of the residual.
        exhausted: Whether the space is invariant, so that T tells everything of the start vector.
    """

    def __init__(self, start: Tensor) -> None:
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.exhausted = False
        self._groups: list[Tensor] = []
        largest = torch.linalg.vector_norm(start, ord=math.inf)  # first, for the squares of very small numbers vanish
        self.vector = torch.div(start, largest, out=self._row(0, like=start))
        self.vector /= _length(self.vector)

    @property
    def basis(self) -> Tensor:
        """The vectors so far, as rows (k, P); a copy."""
        return torch.cat(self._filled())

    def combine(self, coefficients: Tensor) -> Tensor:
        """Σ_k c_k q_k of the vectors so far, for each column of coefficients (k, m): (P, m)."""
        groups = self._filled()
        parts = coefficients.split([len(group) for group in groups])
        return sum((group.T @ part for group, part in zip(groups[1:], parts[1:], strict=True)), groups[0].T @ parts[0])

    def advance(self, product: Tensor) -> None:
        """Take the product of the matrix with :attr:`vector`."""
        assert not self.exhausted
        self.alpha.append(float(dot(self.vector, product)))
        steps = len(self.alpha)
        residual = torch.sub(product, self.vector, alpha=self.alpha[-1], out=self._row(steps, like=product))
        if self.beta:
            residual.sub_(self._row(steps - 2, like=product), alpha=self.beta[-1])
        taken, left = self._orthogonalise(residual)
        if taken > CLEAN * left:
            _, left = self._orthogonalise(residual)
        self.beta.append(left)
        largest = max(map(abs, self.alpha + self.beta[:-1]))
        self.exhausted = left <= BREAKDOWN[product.dtype] * largest or steps == len(product)
        if not self.exhausted:
            self.vector = residual.div_(left)

    def _orthogonalise(self, residual: Tensor) -> tuple[float, float]:
        """Take the part within the basis out of a vector, in place; the lengths of that part and of what is left."""
        squares = 0.0
        for group in self._filled():
            inside = dots(group, residual)
            squares += float(inside.square().sum())
            residual.addmv_(group.T, inside.to(residual.dtype), alpha=-1)
        return math.sqrt(squares), _length(residual)

    def _row(self, number: int, like: Tensor) -> Tensor:
        """Memory of vector ``number``; it comes in groups, so that none is copied when there are more of them."""
        group, row = divmod(number, TOGETHER)
        if group == len(self._groups):
            self._groups.append(like.new_empty(TOGETHER, len(like)))
        return self._groups[group][row]

    def _filled(self) -> list[Tensor]:
        steps = len(self.alpha)
        return [group[: steps - TOGETHER * number] for number, group in enumerate(self._groups) if steps > TOGETHER * number]

    def eigh(self, steps: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ascending eigenvalues (k,) of T, its Ritz values, and its eigenvectors as columns (k, k); as after ``steps``, by default all."""
        steps = steps or len(self.alpha)
        values, vectors = eigh_tridiagonal(np.array(self.alpha[:steps]), np.array(self.beta[: steps - 1]))
        return np.asarray(values, np.float64), np.asarray(vectors, np.float64)

    def residuals(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """‖A y - θ y‖ of the Ritz pairs, from the eigenvectors of T; no further product."""
        return np.zeros(len(self.alpha)) if self.exhausted else self.beta[-1] * np.abs(vectors[-1])

    def positive_part(self) -> float:
        """Estimate of qᵀ A⁺ q for the unit start vector q, A⁺ the matrix with its negative eigenvalues set to 0: Gauss quadrature."""
        values, vectors = self.eigh()
        return float(np.square(vectors[0]) @ values.clip(min=0))


def _length(vector: Tensor) -> float:
    return math.sqrt(float(dot(vector, vector)))
