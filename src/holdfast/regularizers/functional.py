"""Formulas of the regularizers: tensors in, scalar out, no state.

``B`` rows, ``D`` feature dimensions, ``K`` classes throughout. Everything is computed in the dtype of its inputs, which callers keep at
float32 or wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from holdfast.checks import check_labels, check_matrix, check_same_shape
from holdfast.errors import DataError, ShapeError
from holdfast.regularizers.distance_penalties import infop_penalty
from holdfast.regularizers.map_distance import channel_attention, map_distance
from holdfast.regularizers.projections import project_batchnorm, project_frob, project_infop, project_infop_exact
from holdfast.regularizers.relationship import co_tuning_loss, source_relationship_direct, source_relationship_reverse
from holdfast.regularizers.spectral_shrinkage import batch_spectral_shrinkage

__all__ = [
    "batch_spectral_shrinkage",
    "channel_attention",
    "class_means",
    "class_sums",
    "co_tuning_loss",
    "feature_norm_penalty",
    "frob_penalty",
    "half_squared_distance",
    "infop_penalty",
    "map_distance",
    "project_batchnorm",
    "project_frob",
    "project_infop",
    "project_infop_exact",
    "random_reference_loss",
    "sample_reference",
    "source_relationship_direct",
    "source_relationship_reverse",
]

Reduction = Literal["mean", "sum_dims"]


def random_reference_loss(features: Tensor, reference: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean squared distance of features from reference vectors.

    Yamaguchi et al., CVPR 2024, the random feature regularization. The paper writes a squared norm; its release averages over
    the feature dimensions too, which the published weight 1 relies on and which is the default here.

    Args:
        features: Features (B, D).
        reference: Reference vectors (B, D); no gradient flows into them.
        reduction: ``"mean"`` over B and D, or ``"sum_dims"``, the mean over B of squared norms.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: The inputs are not matrices of one shape.

    Example:
        >>> features, reference = torch.ones(4, 2), torch.zeros(4, 2)
        >>> random_reference_loss(features, reference), random_reference_loss(features, reference, reduction="sum_dims")
        (tensor(1.), tensor(2.))
    """
    check_matrix("features", features)
    check_same_shape("features", features, "reference", reference)
    squared = torch.nn.functional.mse_loss(features, reference.detach(), reduction="mean")
    return squared if reduction == "mean" else squared * features.shape[1]


def feature_norm_penalty(features: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean square of the features: the random reference loss with reference 0.

    Args:
        features: Features (B, D).
        reduction: ``"mean"`` over B and D, or ``"sum_dims"``, the mean over B of squared norms.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: ``features`` is not a matrix.

    Example:
        >>> feature_norm_penalty(torch.full((4, 2), 3.0))
        tensor(9.)
    """
    check_matrix("features", features)
    squared = features.square().mean()
    return squared if reduction == "mean" else squared * features.shape[1]


def sample_reference(mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """Reference vectors ``mean + std ⊙ noise``, exact where ``std`` is 0.

    Args:
        mean: Means (B, D) or (D,).
        std: Standard deviations of the same shape, at least 0.
        noise: Standard normal draws (B, D).

    Returns:
        Reference vectors (B, D).

    Example:
        >>> sample_reference(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), torch.ones(1, 2))
        tensor([[1., 3.]])
    """
    return torch.addcmul(mean, std, noise)


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sum of the features of each class, with the number of examples in the last column.

    Sums rather than means, so that ranks and micro-batches can be added up before :func:`class_means` divides once.

    Args:
        features: Features (B, D).
        labels: Classes (B,).
        num_classes: K.

    Returns:
        (K, D + 1): column d < D the sum of feature d, column D the count; zero rows for absent classes.

    Raises:
        ShapeError: ``features`` is not a matrix, or ``labels`` do not fit it.

    Example:
        >>> class_sums(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1]), 2)
        tensor([[0., 0.],
                [4., 2.]])
    """
    check_matrix("features", features)
    check_labels(labels, len(features))
    counted = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    return counted.new_zeros(num_classes, counted.shape[1]).index_add_(0, labels, counted)


def class_means(sums: Tensor, *, absent: Tensor | None = None) -> Tensor:
    """Class means from the sums and counts of :func:`class_sums`.

    Args:
        sums: Sums and counts (K, D + 1).
        absent: Rows (K, D) for classes without an example.

    Returns:
        Means (K, D).

    Raises:
        DataError: A class has no example and ``absent`` is not given.

    Example:
        >>> class_means(torch.tensor([[4.0, 2.0], [0.0, 0.0]]), absent=torch.tensor([[7.0], [7.0]]))
        tensor([[2.],
                [7.]])
    """
    totals, counts = sums[:, :-1], sums[:, -1:]
    if absent is None:
        empty = torch.nonzero(counts[:, 0] == 0).flatten().tolist()
        if empty:
            raise DataError(f"class {empty[0]} has no training example, so it has no mean feature. Remove it or change the split.")
        return totals / counts
    return torch.where(counts > 0, totals / counts.clamp_min(1), absent)


def half_squared_distance(parameters: Sequence[Tensor], start: Sequence[Tensor] | None = None) -> Tensor:
    """``½ Σ ‖p - p⁰‖²`` over pairs of tensors, or ``½ Σ ‖p‖²`` without a start.

    Li et al., ICML 2018 (L2-SP). A sum over all entries, no averaging. The gradient is ``p - p⁰`` exactly, also at the start, where
    the gradient of a norm would be undefined. It can be differentiated once.

    Args:
        parameters: Tensors of any shapes, at least one.
        start: Tensors of the same shapes; no gradient flows into them.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: The two sequences do not match.

    Example:
        >>> half_squared_distance([torch.tensor([3.0, 1.0])], [torch.tensor([1.0, 1.0])])
        tensor(2.)
    """
    if not parameters:
        raise ShapeError("parameters must hold at least one tensor, got none.")
    if start is not None:
        if len(parameters) != len(start):
            raise ShapeError(f"parameters and start must match one to one, got {len(parameters)} and {len(start)} tensors.")
        for number, (parameter, origin) in enumerate(zip(parameters, start, strict=True)):
            check_same_shape(f"parameters[{number}]", parameter, f"start[{number}]", origin)
    value: Tensor = _HalfSquaredDistance.apply(len(parameters), *parameters, *(start or ()))
    return value


def frob_penalty(weights: Sequence[Tensor], starts: Sequence[Tensor] | None = None) -> Tensor:
    """``Σ ‖W - S‖_F²`` over layers, or ``Σ ‖W‖_F²`` without starts: twice :func:`half_squared_distance`.

    Ju et al., ICML 2022, the soft form of the Frobenius constraint, without the factor ½ of L2-SP. Arguments and errors are those of
    :func:`half_squared_distance`.

    Example:
        >>> frob_penalty([torch.tensor([[3.0, 1.0]])], [torch.tensor([[1.0, 1.0]])])
        tensor(4.)
    """
    return 2 * half_squared_distance(weights, starts)


class _HalfSquaredDistance(torch.autograd.Function):
    """One pass for the value and one for the gradient; autograd's own graph would keep a difference and a square for each tensor."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, count: int, *tensors: Tensor) -> Tensor:
        parameters, start = tensors[:count], tensors[count:]
        differences = torch._foreach_sub(parameters, start) if start else parameters
        ctx.count = count  # type: ignore[attr-defined]
        ctx.with_start = bool(start)  # type: ignore[attr-defined]
        ctx.save_for_backward(*differences)
        norms = torch.stack(torch._foreach_norm(differences))
        return norms.square().sum() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        differences = ctx.saved_tensors  # type: ignore[attr-defined]
        scaled = torch._foreach_mul(differences, grads[0])
        padding = ctx.count if ctx.with_start else 0  # type: ignore[attr-defined]
        return (None, *scaled, *(None,) * padding)
