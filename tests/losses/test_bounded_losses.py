from __future__ import annotations

import math

import pytest
import torch
from tests.losses.noisy_cases import logits_and_labels

from holdfast.errors import ShapeError
from holdfast.losses.functional import (
    cross_entropy,
    generalized_cross_entropy,
    jensen_shannon,
    mean_absolute_error,
    normalized_cross_entropy,
    reverse_cross_entropy,
)

LOGITS, LABELS = logits_and_labels()
PROBS = LOGITS.softmax(1)
OF_LABEL = torch.stack([row[label] for row, label in zip(PROBS, LABELS, strict=True)])


def worst(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction that is sure of another class."""
    logits = torch.zeros(1, classes, dtype=torch.float64)
    logits[0, 1] = 1e4
    return logits, torch.tensor([0])


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_gce_is_its_definition(q: float) -> None:
    found = generalized_cross_entropy(LOGITS, LABELS, q=q, reduction="none")
    torch.testing.assert_close(found, (1 - OF_LABEL**q) / q, rtol=1e-12, atol=1e-12)


def test_gce_becomes_cross_entropy_as_q_vanishes() -> None:
    expected = cross_entropy(LOGITS, LABELS)
    assert torch.equal(generalized_cross_entropy(LOGITS, LABELS, q=0.0, reduction="none"), expected)
    torch.testing.assert_close(generalized_cross_entropy(LOGITS, LABELS, q=1e-9, reduction="none"), expected, rtol=1e-7, atol=0)


def test_truncated_gce_is_constant_where_the_label_does_not_fit() -> None:
    q, k = 0.7, float(OF_LABEL.median())
    logits = LOGITS.clone().requires_grad_()
    losses = generalized_cross_entropy(logits, LABELS, q=q, truncate=k, reduction="none")
    out = k > OF_LABEL
    assert 0 < int(out.sum()) < len(LABELS)
    torch.testing.assert_close(losses[out].detach(), torch.full_like(losses[out], (1 - k**q) / q), rtol=1e-12, atol=0)
    torch.testing.assert_close(losses[~out].detach(), ((1 - OF_LABEL**q) / q)[~out], rtol=1e-9, atol=1e-12)
    losses.sum().backward()
    assert not bool(logits.grad[out].any())
    assert bool(logits.grad[k < OF_LABEL].any(dim=1).all())


def test_reverse_cross_entropy_swaps_prediction_and_label() -> None:
    log_label = torch.full_like(PROBS, -4.0).scatter(1, LABELS[:, None], 0.0)
    expected = -(PROBS * log_label).sum(1)
    torch.testing.assert_close(reverse_cross_entropy(LOGITS, LABELS, reduction="none"), expected, rtol=1e-12, atol=1e-12)


def test_mean_absolute_error_sums_over_classes() -> None:
    onehot = torch.zeros_like(PROBS).scatter(1, LABELS[:, None], 1.0)
    expected = (onehot - PROBS).abs().sum(1)
    torch.testing.assert_close(mean_absolute_error(LOGITS, LABELS, reduction="none"), expected, rtol=1e-12, atol=1e-12)


def test_normalized_losses_of_all_classes_sum_to_one() -> None:
    shares = torch.stack([normalized_cross_entropy(LOGITS, torch.full_like(LABELS, k), reduction="none") for k in range(4)])
    torch.testing.assert_close(shares.sum(0), torch.ones(len(LABELS), dtype=torch.float64), rtol=1e-12, atol=1e-12)
    expected = cross_entropy(LOGITS, LABELS) / -LOGITS.log_softmax(1).sum(1)
    torch.testing.assert_close(normalized_cross_entropy(LOGITS, LABELS, reduction="none"), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("classes", [2, 1000])
def test_no_prediction_costs_more_than_the_bound(classes: int) -> None:
    logits, label = worst(classes)
    assert float(generalized_cross_entropy(logits, label, q=0.7)) == pytest.approx(1 / 0.7)
    assert float(reverse_cross_entropy(logits, label)) == pytest.approx(4)
    assert float(mean_absolute_error(logits, label)) == pytest.approx(2)
    assert 0 <= float(normalized_cross_entropy(logits, label)) <= 1
    weights = (0.3, 0.7)
    entropy = -sum(weight * math.log(weight) for weight in weights)  # of the label and a prediction that have nothing in common
    assert float(jensen_shannon(logits, label, weights=weights)) == pytest.approx(entropy / -(0.7 * math.log(0.7)))
    assert float(jensen_shannon(logits, torch.tensor([1]), weights=weights)) == pytest.approx(0, abs=1e-12)


def entropy(probs: torch.Tensor) -> float:
    return -sum(p * math.log(p) for p in probs.tolist() if p > 0)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.2, 0.8), (0.3, 0.5, 0.2)])
def test_js_is_its_definition(weights: tuple[float, ...]) -> None:
    views = [logits_and_labels(seed=seed)[0] for seed in range(1, len(weights) - 1)]
    found = jensen_shannon(LOGITS, LABELS, weights=weights, further=views, reduction="none")
    for row, label in enumerate(LABELS.tolist()):
        onehot = torch.zeros(4, dtype=torch.float64)
        onehot[label] = 1
        parts = [onehot, *(view.softmax(1)[row] for view in (LOGITS, *views))]
        mixed = sum(weight * part for weight, part in zip(weights, parts, strict=True))
        value = entropy(mixed) - sum(weight * entropy(part) for weight, part in zip(weights, parts, strict=True))
        assert float(found[row]) == pytest.approx(value / -((1 - weights[0]) * math.log(1 - weights[0])), rel=1e-10)


def test_js_is_cross_entropy_for_a_small_weight_and_half_the_absolute_error_for_a_large_one() -> None:
    small = jensen_shannon(LOGITS, LABELS, weights=(1e-7, 1 - 1e-7), reduction="none")
    torch.testing.assert_close(small, cross_entropy(LOGITS, LABELS), rtol=1e-4, atol=1e-5)
    large = jensen_shannon(LOGITS, LABELS, weights=(1 - 1e-12, 1e-12), reduction="none")
    torch.testing.assert_close(large, 1 - OF_LABEL, rtol=0.05, atol=0.05)


def test_views_that_agree_are_one_view() -> None:
    single = jensen_shannon(LOGITS, LABELS, weights=(0.4, 0.6))
    torch.testing.assert_close(jensen_shannon(LOGITS, LABELS, weights=(0.4, 0.3, 0.3), further=[LOGITS]), single, rtol=1e-10, atol=0)
    other = logits_and_labels(seed=9)[0]
    one = jensen_shannon(LOGITS, LABELS, weights=(0.4, 0.3, 0.3), further=[other])
    two = jensen_shannon(other, LABELS, weights=(0.4, 0.3, 0.3), further=[LOGITS])
    torch.testing.assert_close(one, two, rtol=1e-10, atol=0)


@pytest.mark.parametrize("weights", [(0.5,), (0.5, 0.4), (0.0, 1.0), (0.5, 0.25, 0.25)])
def test_js_refuses_weights_that_are_no_shares(weights: tuple[float, ...]) -> None:
    with pytest.raises(ShapeError, match="weights: expected 2 numbers above 0 with sum 1"):
        jensen_shannon(LOGITS, LABELS, weights=weights)


def test_js_refuses_views_of_other_examples() -> None:
    with pytest.raises(ShapeError, match="logits of a further view"):
        jensen_shannon(LOGITS, LABELS, weights=(0.4, 0.3, 0.3), further=[LOGITS[:2]])
