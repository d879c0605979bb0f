"""Formulas against their definitions, written with loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.errors import DataError, ShapeError
from holdfast.regularizers.functional import (
    class_means,
    class_sums,
    feature_norm_penalty,
    half_squared_distance,
    random_reference_loss,
    sample_reference,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual: Tensor, expected: Tensor | float) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("batch", "width"), [(5, 3), (1, 7), (4, 1)])
def test_random_reference_loss_is_the_mean_over_rows_and_dimensions(batch: int, width: int) -> None:
    features, reference = normal(batch, width), normal(batch, width, seed=1)
    squares = [(float(features[i, d]) - float(reference[i, d])) ** 2 for i in range(batch) for d in range(width)]
    close(random_reference_loss(features, reference), sum(squares) / (batch * width))
    close(random_reference_loss(features, reference, reduction="sum_dims"), sum(squares) / batch)


def test_random_reference_loss_sends_no_gradient_into_the_reference() -> None:
    features, reference = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    random_reference_loss(features, reference).backward()
    close(features.grad, 2 * (features - reference).detach() / 12)
    assert reference.grad is None


def test_reference_zero_gives_the_feature_norm_penalty() -> None:
    features = normal(6, 4)
    close(feature_norm_penalty(features), random_reference_loss(features, torch.zeros_like(features)))


def test_a_dead_unit_has_its_mean_as_reference_exactly() -> None:
    mean, std = torch.tensor([1.25, -3.0]), torch.tensor([0.0, 2.0])
    reference = sample_reference(mean, std, torch.tensor([[1e30, 1.0]]))
    assert reference.tolist() == [[1.25, -1.0]]


def test_class_sums_and_means_follow_a_loop_over_examples() -> None:
    features, labels = normal(9, 4), torch.tensor([2, 0, 2, 2, 0, 4, 4, 4, 4])
    sums = class_sums(features, labels, 5)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for row, label in zip(features, labels.tolist(), strict=True):
        expected[label, :4] += row
        expected[label, 4] += 1
    close(sums, expected)
    absent = normal(5, 4, seed=2)
    means = class_means(sums, absent=absent)
    for label in range(5):
        rows = features[labels == label]
        close(means[label], rows.mean(0) if len(rows) else absent[label])


def test_class_sums_of_parts_add_up() -> None:
    features, labels = normal(8, 3), torch.tensor([0, 1, 1, 0, 2, 2, 2, 0])
    close(class_sums(features[:5], labels[:5], 3) + class_sums(features[5:], labels[5:], 3), class_sums(features, labels, 3))


def test_an_empty_class_has_no_mean_and_is_named() -> None:
    with pytest.raises(DataError, match="class 1 has no training example"):
        class_means(class_sums(normal(2, 3), torch.tensor([0, 2]), 3))


@pytest.mark.parametrize("with_start", [True, False])
def test_half_squared_distance_is_a_sum_over_all_entries(with_start: bool) -> None:
    shapes = [(3, 4), (4,), ()]
    parameters = [normal(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    start = [normal(*shape, seed=10 + i) for i, shape in enumerate(shapes)] if with_start else None
    value = half_squared_distance(parameters, start)
    origins = start or [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    close(value.detach(), sum(((p - o) ** 2).sum() / 2 for p, o in zip(parameters, origins, strict=True)).detach())
    (3 * value).backward()
    for parameter, origin in zip(parameters, origins, strict=True):
        close(parameter.grad, 3 * (parameter - origin).detach())


def test_half_squared_distance_passes_gradcheck_and_is_smooth_at_the_start() -> None:
    parameters = [normal(2, 3).requires_grad_(), normal(4, seed=1).requires_grad_()]
    start = [normal(2, 3, seed=2), normal(4, seed=3)]
    assert torch.autograd.gradcheck(lambda *p: half_squared_distance(p, start), parameters)
    at_start = half_squared_distance(parameters, [p.detach() for p in parameters])
    at_start.backward()
    assert at_start.item() == 0
    assert all(not p.grad.any() for p in parameters)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: feature_norm_penalty(torch.ones(2, 8, 7, 7)),
            r"features must be \(B, D\), got \(2, 8, 7, 7\); pool the spatial axes first",
        ),
        (lambda: feature_norm_penalty(torch.ones(2, 3, dtype=torch.int64)), "must be floating point, got torch.int64"),
        (
            lambda: random_reference_loss(torch.ones(2, 3), torch.ones(3)),
            r"features \(2, 3\) and reference \(3,\) must have the same shape",
        ),
        (lambda: class_sums(torch.ones(2, 3), torch.ones(3, dtype=torch.int64), 2), r"labels must be \(2,\)"),
        (lambda: class_sums(torch.ones(2, 3), torch.ones(2), 2), "labels must be integer classes, got torch.float32"),
        (lambda: half_squared_distance([]), "at least one tensor"),
        (lambda: half_squared_distance([torch.ones(2)], [torch.ones(3)]), r"parameters\[0\] \(2,\) and start\[0\] \(3,\)"),
        (lambda: half_squared_distance([torch.ones(2)], []), "must match one to one, got 1 and 0"),
    ],
)
def test_wrong_shapes_are_named(call: object, sentence: str) -> None:
    with pytest.raises(ShapeError, match=sentence):
        call()
