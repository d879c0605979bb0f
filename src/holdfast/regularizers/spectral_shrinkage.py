"""The penalty of BSS: the smallest singular values of a feature batch."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.checks import check_matrix
from holdfast.errors import ShapeError

__all__ = ["batch_spectral_shrinkage"]

DOUBLE_UP_TO = 512
"""The side of the Gram matrix up to which it is built in float64, where that costs next to nothing."""


def batch_spectral_shrinkage(features: Tensor, *, k: int = 1) -> Tensor:
    """Sum of the squares of the ``k`` smallest singular values of a feature batch.

    Chen et al., NeurIPS 2019, the BSS penalty. Neither centred nor divided by the batch size, as in Transfer-Learning-Library (commit
    c4aa59e), so the useful weight depends on B.

    With U the left singular vectors of those values, the penalty is ``‖Uᵀ Z‖²`` and its gradient ``2 U Uᵀ Z``. U comes from the Gram
    matrix, without gradient: that of singular vectors divides by differences of singular values and is infinite where two agree. Where
    the k-th smallest agrees with the next, the gradient is one of several valid ones. Squaring the features loses what lies below 1e-3
    of the largest singular value in float32, so the Gram matrix is float64 where its side min(B, D) is at most 512.

    Args:
        features: Pooled features (B, D), float32 or wider.
        k: How many singular values to shrink, from 1 to min(B, D).

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: ``features`` is not a matrix or ``k`` is out of range.

    Example:
        >>> batch_spectral_shrinkage(torch.diag(torch.tensor([3.0, 2.0, 1.0])), k=2)
        tensor(5.)
    """
    check_matrix("features", features)
    values = min(features.shape)
    if not 1 <= k <= values:
        raise ShapeError(f"k must be from 1 to {values}, the number of singular values of features {tuple(features.shape)}, got {k}.")
    exact = features.double() if values <= DOUBLE_UP_TO else features
    rows = exact if len(features) <= features.shape[1] else exact.T
    vectors = _smallest(rows.detach(), k)
    return (vectors.T @ rows).square().sum().to(features.dtype)


def _smallest(rows: Tensor, k: int) -> Tensor:
    """Left singular vectors (rows, k) of the ``k`` smallest singular values."""
    gram = rows @ rows.T
    # A decomposition fails on what is not finite; the penalty itself stays so, and is found where terms are watched.
    _, vectors = torch.linalg.eigh(gram.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
    return vectors[:, :k]
