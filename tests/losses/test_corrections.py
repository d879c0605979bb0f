from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.losses.noisy_cases import logits_and_labels, probabilities

from holdfast.errors import DataError, ShapeError
from holdfast.labels import transition
from holdfast.losses.functional import (
    backward_correction,
    backward_correction_by_class,
    clip_inverse,
    cross_entropy,
    forward_correction,
    label_smoothing,
)

LOGITS, LABELS = logits_and_labels(rows=4)
ASYMMETRIC = torch.tensor([[0.8, 0.15, 0.05, 0.0], [0.1, 0.6, 0.1, 0.2], [0.0, 0.0, 1.0, 0.0], [0.3, 0.1, 0.1, 0.5]], dtype=torch.float64)
R = torch.as_tensor(transition.inverse(ASYMMETRIC.numpy()))


def over_observed(loss):
    """Losses (true, observed) of one row of logits, the same for every pair."""
    return torch.stack([loss(LOGITS[:1], torch.tensor([observed]), reduction="none")[0] for observed in range(4)])


def test_backward_is_unbiased_under_an_asymmetric_matrix() -> None:
    expected = ASYMMETRIC @ over_observed(lambda z, y, **more: backward_correction(z, y, R, **more))
    torch.testing.assert_close(expected, -LOGITS[0].log_softmax(0), rtol=1e-12, atol=1e-12)


def test_backward_with_the_matrix_turned_round_is_biased() -> None:
    expected = ASYMMETRIC @ over_observed(lambda z, y, **more: backward_correction(z, y, R.T, **more))
    assert float((expected + LOGITS[0].log_softmax(0)).abs().max()) > 0.1


def test_the_gradient_of_backward_is_prediction_minus_pseudo_target() -> None:
    logits = LOGITS.clone().requires_grad_()
    backward_correction(logits, LABELS, R, reduction="sum").backward()
    torch.testing.assert_close(logits.grad, LOGITS.softmax(1) - R[LABELS], rtol=1e-12, atol=1e-12)


def test_backward_has_no_lower_bound_and_its_floor_is_one() -> None:
    pairs = torch.as_tensor(transition.inverse(transition.pair(4, 0.3)))
    sure = 200 * F.one_hot(torch.tensor([1]), 4).double()
    observed = torch.tensor([1])
    assert float(backward_correction(sure, observed, pairs)) < -50
    assert float(backward_correction(sure, observed, pairs, clamp_min=-2.0)) == -2
    mixed = torch.cat([sure, LOGITS])
    labels = torch.cat([observed, LABELS])
    single = backward_correction(mixed, labels, pairs, reduction="none")
    assert float(backward_correction(mixed, labels, pairs, clamp_min=0.0)) == pytest.approx(float(single.clamp(min=0).mean()))


def test_shares_of_classes_add_up_to_the_backward_loss() -> None:
    weights = torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64)
    shares = backward_correction_by_class(LOGITS, LABELS, R, weights=weights)
    single = backward_correction(LOGITS, LABELS, R, reduction="none")
    assert shares.shape == (4,)
    torch.testing.assert_close(shares.sum(), (weights * single).mean(), rtol=1e-12, atol=1e-12)
    rows = backward_correction_by_class(LOGITS, LABELS, R, reduction="none")
    expected = torch.stack([R[label] * -logs for label, logs in zip(LABELS, LOGITS.log_softmax(1), strict=True)])
    torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(backward_correction_by_class(LOGITS, LABELS, R, reduction="sum"), rows.sum(0), rtol=1e-12, atol=1e-12)


def test_a_clipped_inverse_is_made_of_probabilities() -> None:
    clipped = clip_inverse(R)
    assert bool((clipped >= 0).all())
    torch.testing.assert_close(clipped.sum(1), torch.ones(4, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert bool((clipped[R < 0] == 0).all())
    torch.testing.assert_close(clipped[2], R[2].clamp(min=0) / R[2].clamp(min=0).sum(), rtol=1e-12, atol=1e-12)


def test_soft_labels_are_means_over_hard_ones() -> None:
    soft = probabilities(4, 4)
    for loss in (lambda z, y, **more: backward_correction(z, y, R, **more), lambda z, y, **more: label_smoothing(z, y, **more)):
        hard = torch.stack([loss(LOGITS, torch.full((4,), k), reduction="none") for k in range(4)], dim=1)
        torch.testing.assert_close(loss(LOGITS, soft, reduction="none"), (soft * hard).sum(1), rtol=1e-12, atol=1e-12)


def test_forward_is_the_likelihood_of_the_observed_label() -> None:
    observed = LOGITS.softmax(1) @ ASYMMETRIC
    expected = -torch.stack([row[label].log() for row, label in zip(observed, LABELS, strict=True)])
    torch.testing.assert_close(forward_correction(LOGITS, LABELS, ASYMMETRIC, reduction="none"), expected, rtol=1e-12, atol=1e-12)


def test_forward_is_least_where_the_prediction_is_the_clean_posterior() -> None:
    """Consistency: with observed labels drawn from ``p F``, no other prediction does better than p."""
    truth = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    observed = truth @ ASYMMETRIC

    def expected(logits):
        single = torch.stack([forward_correction(logits[None], torch.tensor([k]), ASYMMETRIC) for k in range(4)])
        return (observed * single).sum()

    logits = truth.log().requires_grad_()
    expected(logits).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_both_corrections_by_the_identity_are_cross_entropy() -> None:
    identity = torch.eye(4, dtype=torch.float64)
    expected = cross_entropy(LOGITS, LABELS)
    torch.testing.assert_close(backward_correction(LOGITS, LABELS, identity, reduction="none"), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forward_correction(LOGITS, LABELS, identity, reduction="none"), expected, rtol=1e-12, atol=1e-12)


def test_forward_refuses_a_label_that_is_never_observed() -> None:
    matrix = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    forward_correction(torch.zeros(2, 2), torch.tensor([0, 0]), matrix)
    with pytest.raises(DataError, match="column 1 is all zero, so class 1 is never observed"):
        forward_correction(torch.zeros(2, 2), torch.tensor([0, 1]), matrix)


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_symmetric_backward_is_label_smoothing_with_a_negative_coefficient(classes: int) -> None:
    rate = 0.3
    logits, labels = logits_and_labels(classes=classes)
    inverse = torch.as_tensor(transition.inverse(transition.symmetric(classes, rate)))
    coefficient = -rate * classes / ((classes - 1) * (1 - rate * classes / (classes - 1)))
    torch.testing.assert_close(
        backward_correction(logits, labels, inverse, reduction="none"),
        label_smoothing(logits, labels, smoothing=coefficient, reduction="none"),
        rtol=1e-10,
        atol=1e-12,
    )


def test_label_smoothing_is_that_of_torch() -> None:
    for smoothing in (0.0, 0.1, 1.0):
        expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
        torch.testing.assert_close(label_smoothing(LOGITS, LABELS, smoothing=smoothing), expected, rtol=1e-12, atol=1e-12)


def test_a_matrix_of_other_classes_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"inverse must be \(4, 4\), as the logits have 4 classes, got \(3, 3\)"):
        backward_correction(LOGITS, LABELS, torch.eye(3))
    with pytest.raises(ShapeError, match="transition must be"):
        forward_correction(LOGITS, LABELS, torch.eye(5))


def test_the_matrix_keeps_its_precision_in_a_half_precision_loss() -> None:
    found = backward_correction(LOGITS.half(), LABELS, R, reduction="none")
    expected = backward_correction(LOGITS.half().double(), LABELS, R, reduction="none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
