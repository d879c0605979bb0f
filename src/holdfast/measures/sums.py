"""Sums over long vectors without a copy of them: piece by piece, each small enough for a processor's cache."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dot", "dots"]

PIECE = 1 << 16


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner product of two vectors (P,), products and sums in float64, as a number on their device.

    Example:
        >>> float(dot(torch.full((2,), 0.5), torch.ones(2)))
        1.0
    """
    pairs = zip(first.split(PIECE), second.split(PIECE), strict=True)
    return torch.stack([one.double() @ other.double() for one, other in pairs]).sum()


def dots(rows: Tensor, vector: Tensor) -> Tensor:
    """Inner product of each row (k, P) with a vector (P,), in float64 (k,); within a piece they are formed in the type of the vectors."""
    pairs = zip(rows.split(PIECE, dim=1), vector.split(PIECE), strict=True)
    return torch.stack([part @ piece for part, piece in pairs]).sum(dim=0, dtype=torch.float64)
