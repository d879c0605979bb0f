"""The Lanczos recursion with full re-orthogonalisation, and what its small tridiagonal matrix says of the large one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

__all__ = ["Lanczos", "Operator", "keeping"]

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
    result to :meth:`advance`. Each new vector is orthogonalised twice against all before it.

    Args:
        start: Where the basis starts (P,), not zero, of any length.

    Attributes:
        vector: The unit vector that is multiplied next.
        alpha: Diagonal of the tridiagonal matrix T, one entry a step.
        beta: Its off-diagonal, and last the length of the residual.
        exhausted: Whether the space is invariant, so that T tells everything of the start vector.
    """

    def __init__(self, start: Tensor) -> None:
        self.vector = start / start.norm()
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.exhausted = False
        self._basis = start.new_empty(0, len(start))

    @property
    def basis(self) -> Tensor:
        """The vectors so far, as rows (k, P)."""
        return self._basis[: len(self.alpha)]

    def advance(self, product: Tensor) -> None:
        """Take the product of the matrix with :attr:`vector`."""
        assert not self.exhausted
        steps = len(self.alpha)
        if steps == len(self._basis):  # room for half as many again, so that copies stay few
            self._basis = torch.cat([self._basis, self._basis.new_empty(max(8, steps // 2), len(product))])
        self._basis[steps] = self.vector
        self.alpha.append(float(self.vector.double() @ product.double()))
        residual = product - self.alpha[-1] * self.vector
        for _ in range(2):
            residual = residual - self.basis.T @ (self.basis @ residual)
        self.beta.append(float(residual.double().norm()))
        largest = max(map(abs, self.alpha + self.beta[:-1]))
        self.exhausted = self.beta[-1] <= BREAKDOWN[product.dtype] * largest or len(self.alpha) == len(product)
        if not self.exhausted:
            self.vector = residual / self.beta[-1]

    def eigh(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ascending eigenvalues (k,) of T, its Ritz values, and its eigenvectors as columns (k, k)."""
        values, vectors = eigh_tridiagonal(np.array(self.alpha), np.array(self.beta[:-1]))
        return np.asarray(values, np.float64), np.asarray(vectors, np.float64)

    def residuals(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """‖A y - θ y‖ of the Ritz pairs, from the eigenvectors of T; no further product."""
        return np.zeros(len(self.alpha)) if self.exhausted else self.beta[-1] * np.abs(vectors[-1])

    def positive_part(self) -> float:
        """Estimate of qᵀ A⁺ q for the unit start vector q, A⁺ the matrix with its negative eigenvalues set to 0: Gauss quadrature."""
        values, vectors = self.eigh()
        return float(np.square(vectors[0]) @ values.clip(min=0))
