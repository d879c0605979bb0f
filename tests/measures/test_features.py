"""Measures of features against their definitions, written with loops, and against what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from holdfast.errors import ShapeError
from holdfast.losses.functional import cross_entropy
from holdfast.measures import features as module
from holdfast.measures.features import (
    class_entropies,
    conditional_entropy,
    differential_entropy,
    feature_norm,
    gradient_norm,
    mutual_information,
    norm_of_mean_feature,
    pca_view,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def rotation(width: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(width, width, seed=seed)).Q


def entropy_by_loops(rows: list[list[float]]) -> float:
    """D / (N (N - 1)) times the sum of log d over ordered pairs."""
    count, width = len(rows), len(rows[0])
    total = 0.0
    for i in range(count):
        for j in range(count):
            if i != j:
                distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)))
                total += math.log(max(distance, 1e-6 * math.sqrt(width)))
    return width * total / (count * (count - 1))


def close(actual: float | Tensor, expected: float | Tensor) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64), torch.as_tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("block", [1, 2, 3, 5, 4096])
@pytest.mark.parametrize(("count", "width"), [(11, 3), (2, 1), (6, 20)])
def test_entropy_is_the_mean_log_distance_of_pairs(count: int, width: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    features = normal(count, width)
    close(differential_entropy(features), entropy_by_loops(features.tolist()))


@pytest.mark.parametrize("block", [2, 4096])
def test_equal_and_nearly_equal_features_count_as_apart_by_the_floor(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    features = normal(5, 4)
    features[3] = features[0]
    features[4] = features[1] + 1e-9
    close(differential_entropy(features), entropy_by_loops(features.tolist()))
    close(differential_entropy(torch.ones(2, 9)), 9 * math.log(3e-6))


@pytest.mark.parametrize("block", [4, 4096])
def test_close_pairs_far_from_the_origin_keep_their_distance(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    features = normal(8, 40)
    assert differential_entropy(features + 2.0**20) == pytest.approx(differential_entropy(features), rel=1e-7)
    pair = torch.full((30, 40), 2.0**20, dtype=torch.float64)  # more rows than the number from which cdist would use products
    pair += torch.arange(30, dtype=torch.float64)[:, None] * 2.0**-12
    close(differential_entropy(pair), entropy_by_loops(pair.tolist()))


def test_full_entropy_adds_the_volume_of_the_unit_ball_and_one() -> None:
    features = normal(7, 3)
    close(differential_entropy(features, full=True) - differential_entropy(features), math.log(4 / 3 * math.pi) + 1)
    features = normal(7, 2)
    close(differential_entropy(features, full=True) - differential_entropy(features), math.log(math.pi) + 1)


def test_full_entropy_comes_near_that_of_a_gaussian() -> None:
    gaussian = 1.5 * math.log(2 * math.pi * math.e)
    assert differential_entropy(normal(1500, 3), full=True) - gaussian == pytest.approx(0.3, abs=0.1)  # biased, as the estimator is


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_examples_have_no_entropy(count: int) -> None:
    assert math.isnan(differential_entropy(normal(count, 3)))
    labels = torch.zeros(count, dtype=torch.int64)
    assert math.isnan(mutual_information(normal(count, 3), labels))
    value, left_out = conditional_entropy(normal(count, 3), labels)
    assert math.isnan(value)
    assert left_out == count


def test_entropies_follow_shift_rotation_order_and_scale() -> None:
    features, labels = normal(30, 5), labels_of(30, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    for changed, same in (
        (features + normal(1, 5, seed=2), labels),
        (features @ rotation(5), labels),
        (features[order], labels[order]),
    ):
        close(differential_entropy(changed), differential_entropy(features))
        close(conditional_entropy(changed, same).value, conditional_entropy(features, labels).value)
    close(differential_entropy(3 * features), differential_entropy(features) + 5 * math.log(3))
    close(mutual_information(3 * features, labels), mutual_information(features, labels))


def test_the_entropy_is_of_double_precision_whatever_the_features_are() -> None:
    features = normal(12, 6).float()
    assert differential_entropy(features) == differential_entropy(features.double())
    half = normal(12, 6).bfloat16()
    assert differential_entropy(half) == differential_entropy(half.double())


def test_conditional_entropy_weighs_classes_by_size_and_leaves_out_single_examples() -> None:
    features = normal(9, 3)
    labels = torch.tensor([4, 0, 4, 4, 0, 2, 4, 0, 7])
    parts = {k: features[[i for i in range(9) if labels[i] == k]].tolist() for k in (0, 4)}
    value, left_out = conditional_entropy(features, labels)
    close(value, 3 / 7 * entropy_by_loops(parts[0]) + 4 / 7 * entropy_by_loops(parts[4]))
    assert left_out == 2
    close(mutual_information(features, labels), entropy_by_loops(features.tolist()) - value)


def test_class_entropies_are_unknown_where_a_class_has_fewer_than_two() -> None:
    features, labels = normal(5, 2), torch.tensor([0, 2, 0, 1, 0])
    found = class_entropies(features, labels, 4)
    close(found[0], entropy_by_loops(features[[0, 2, 4]].tolist()))
    assert found[1:].isnan().all()


def test_features_that_tell_classes_apart_share_more_information_with_them() -> None:
    features, labels = normal(60, 4), labels_of(60, 3)
    apart = features + 50 * torch.eye(4, dtype=torch.float64)[labels]
    assert mutual_information(apart, labels) > 4 > abs(mutual_information(features, labels))


def test_norms_are_those_of_rows_and_of_their_mean() -> None:
    rows = normal(6, 4).tolist()
    close(feature_norm(torch.tensor(rows)), sum(math.sqrt(sum(x * x for x in row)) for row in torch.tensor(rows).tolist()) / 6)
    mean = [sum(row[d] for row in torch.tensor(rows).tolist()) / 6 for d in range(4)]
    close(norm_of_mean_feature(torch.tensor(rows)), math.sqrt(sum(x * x for x in mean)))


@pytest.mark.parametrize("measure", [feature_norm, norm_of_mean_feature])
def test_norms_of_nothing_are_unknown(measure) -> None:
    assert math.isnan(measure(normal(0, 3)))


def test_gradient_norm_is_that_of_the_head_in_a_backward_pass() -> None:
    features, labels, head = normal(10, 6), labels_of(10, 4), nn.Linear(6, 4, dtype=torch.float64)
    logits = head(features)
    cross_entropy(logits, labels).mean().backward()
    close(gradient_norm(logits, labels, features), head.weight.grad.norm())


def test_gradient_norm_of_perfect_predictions_is_zero_and_of_no_examples_unknown() -> None:
    labels = torch.arange(3)
    assert gradient_norm(1000 * torch.eye(3), labels, normal(3, 2)) == 0.0
    assert math.isnan(gradient_norm(normal(0, 3), labels[:0], normal(0, 2)))


@pytest.mark.parametrize(("count", "width"), [(20, 5), (4, 9)])
def test_pca_finds_the_leading_eigenvectors_of_the_covariance(count: int, width: int) -> None:
    features = normal(count, width) @ torch.diag(torch.arange(1.0, width + 1, dtype=torch.float64)) + 7
    view = pca_view(features)
    centred = features - features.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    close(view.mean, features.mean(dim=0))
    for number in range(2):
        expected = vectors[:, -1 - number]
        close(view.components[number], expected * expected[expected.abs().argmax()].sign())
        close(view.explained_variance_ratio[number], values[-1 - number] / values.sum())
    close(view.projection, centred @ view.components.T)


def test_pca_of_a_single_direction_or_example_is_finite() -> None:
    assert pca_view(normal(5, 1)).explained_variance_ratio.tolist() == [pytest.approx(1.0)]
    alone = pca_view(normal(1, 3))
    assert alone.projection.tolist() == [[0.0]]
    assert alone.explained_variance_ratio.tolist() == [0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: feature_norm(normal(4)), r"features must be \(B, D\), got \(4,\)"),
        (lambda: differential_entropy(normal(2, 3, 4, 4)), "pool the spatial axes"),
        (lambda: differential_entropy(torch.ones(3, 2, dtype=torch.int64)), "floating point"),
        (lambda: conditional_entropy(normal(4, 2), torch.zeros(3, dtype=torch.int64)), r"labels must be \(4,\)"),
        (lambda: gradient_norm(normal(4, 2), torch.zeros(4, dtype=torch.int64), normal(3, 2)), "4 and 3 rows"),
        (lambda: pca_view(normal(0, 2)), "at least one row"),
    ],
)
def test_what_is_no_feature_matrix_is_refused(call, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call()
