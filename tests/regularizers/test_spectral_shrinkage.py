"""BSS's formula against the singular values, and where its numerics are hard."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.functional import batch_spectral_shrinkage


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=7)).Q


def with_singular_values(values: Tensor, batch: int, width: int) -> Tensor:
    return rotation(batch)[:, : len(values)] @ torch.diag(values) @ rotation(width)[:, : len(values)].T


def gradient(features: Tensor, k: int) -> Tensor:
    features = features.clone().requires_grad_()
    batch_spectral_shrinkage(features, k=k).backward()
    assert features.grad is not None
    return features.grad


SHAPES = [(5, 9), (9, 5), (6, 6), (2, 7)]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_it_is_the_sum_of_the_squares_of_the_smallest_singular_values(batch: int, width: int, k: int) -> None:
    features = normal(batch, width)
    values = torch.linalg.svdvals(features)
    torch.testing.assert_close(batch_spectral_shrinkage(features, k=k), values[-k:].square().sum(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_its_gradient_is_twice_the_part_of_the_features_that_belongs_to_them(batch: int, width: int, k: int) -> None:
    features = normal(batch, width)
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    expected = 2 * sum(values[i] * torch.outer(left[:, i], right[i]) for i in range(len(values) - k, len(values)))
    torch.testing.assert_close(gradient(features, k), expected, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: batch_spectral_shrinkage(z, k=k), features.requires_grad_())


@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_all_singular_values_make_the_squared_norm(batch: int, width: int) -> None:
    features = normal(batch, width)
    torch.testing.assert_close(batch_spectral_shrinkage(features, k=min(batch, width)), features.square().sum())
    torch.testing.assert_close(gradient(features, min(batch, width)), 2 * features)


def test_rotations_of_the_feature_space_and_the_order_of_rows_do_not_matter() -> None:
    features = normal(6, 9)
    for other in (features @ rotation(9), features[[3, 0, 5, 1, 2, 4]]):
        torch.testing.assert_close(batch_spectral_shrinkage(other, k=2), batch_spectral_shrinkage(features, k=2), rtol=1e-10, atol=0)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_equal_singular_values_have_a_finite_gradient_of_the_right_size(k: int) -> None:
    features = with_singular_values(torch.full((5,), 1.7, dtype=torch.float64), 5, 9)
    torch.testing.assert_close(batch_spectral_shrinkage(features, k=k), torch.tensor(k * 1.7**2, dtype=torch.float64))
    # Whichever vectors are chosen, a small step against the gradient shrinks the penalty by its squared norm, 4 k σ².
    torch.testing.assert_close(gradient(features, k).square().sum(), torch.tensor(4 * k * 1.7**2, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_above_the_rank_there_is_nothing_to_shrink(k: int) -> None:
    features = torch.outer(normal(4), normal(6, seed=1))
    features.requires_grad_()
    value = batch_spectral_shrinkage(features, k=k)
    value.backward()
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-24)
    torch.testing.assert_close(features.grad, torch.zeros_like(features), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("batch", "width"), [(6, 40), (40, 6)])
def test_small_singular_values_survive_float32(batch: int, width: int) -> None:
    # Two that float32 does not tell apart once they are squared beside the largest.
    features = with_singular_values(torch.tensor([1.0, 1.0, 1.0, 1.0, 3e-4, 6e-5], dtype=torch.float64), batch, width).float()
    exact = torch.linalg.svdvals(features.double())[-1].square()
    value = batch_spectral_shrinkage(features)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=0)


def test_a_large_gram_matrix_stays_in_the_precision_of_the_features() -> None:
    features = normal(520, 530).float()
    exact = torch.linalg.svdvals(features.double())[-3:].square().sum()
    torch.testing.assert_close(batch_spectral_shrinkage(features, k=3).double(), exact, rtol=1e-2, atol=0)


def test_features_that_are_not_finite_give_such_a_value_and_no_failed_decomposition() -> None:
    features = normal(4, 6)
    features[1, 2] = torch.nan
    assert batch_spectral_shrinkage(features).isnan()
    features[1, 2] = torch.inf
    assert not batch_spectral_shrinkage(features).isfinite()


@pytest.mark.parametrize("k", [0, 5, -1])
def test_a_number_of_singular_values_that_there_is_not_is_refused(k: int) -> None:
    with pytest.raises(ShapeError, match=rf"k must be from 1 to 4, the number of singular values of features \(4, 6\), got {k}\."):
        batch_spectral_shrinkage(normal(4, 6), k=k)


def test_maps_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must be \(B, D\), got \(2, 3, 4, 4\); pool the spatial axes first"):
        batch_spectral_shrinkage(normal(2, 3, 4, 4))
