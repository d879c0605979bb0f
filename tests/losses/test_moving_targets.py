from __future__ import annotations

import math

import pytest
import torch
from tests.losses.noisy_cases import logits_and_labels, probabilities

from holdfast.errors import ShapeError
from holdfast.losses.functional import (
    cross_entropy,
    early_learning_regularization,
    early_learning_targets,
    self_adaptive_loss,
    self_adaptive_targets,
)

LOGITS, LABELS = logits_and_labels()
TARGETS = probabilities(len(LABELS), 4)


def test_targets_are_running_means_of_predictions() -> None:
    probs = LOGITS.softmax(1).clamp(1e-4, 1 - 1e-4)
    expected = 0.7 * TARGETS + 0.3 * probs / probs.sum(1, keepdim=True)
    torch.testing.assert_close(early_learning_targets(TARGETS, LOGITS, momentum=0.7), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        self_adaptive_targets(TARGETS, LOGITS, momentum=0.9), 0.9 * TARGETS + 0.1 * LOGITS.softmax(1), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("move", [early_learning_targets, self_adaptive_targets])
def test_targets_hold_no_gradient(move) -> None:
    assert not move(TARGETS, LOGITS.clone().requires_grad_()).requires_grad


def test_early_learning_pulls_towards_the_target_however_sure_both_are() -> None:
    sure = torch.tensor([[1e3, 0.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(early_learning_regularization(sure, target)) == pytest.approx(math.log(1e-4))
    logits = torch.tensor([[0.3, 0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    early_learning_regularization(logits, target).backward()
    assert float(logits.grad[0, 0]) < 0 < float(logits.grad[0, 1])


def test_early_learning_is_nothing_before_there_are_targets() -> None:
    assert float(early_learning_regularization(LOGITS, torch.zeros_like(TARGETS))) == 0


def test_self_adaptive_loss_with_one_hot_targets_is_cross_entropy() -> None:
    onehot = torch.nn.functional.one_hot(LABELS, 4).double()
    torch.testing.assert_close(self_adaptive_loss(LOGITS, onehot), cross_entropy(LOGITS, LABELS).mean(), rtol=1e-12, atol=0)


def test_self_adaptive_loss_weighs_examples_by_their_surest_target() -> None:
    weights = [max(row) for row in TARGETS.tolist()]
    single = -(TARGETS * LOGITS.log_softmax(1)).sum(1)
    expected = sum(weight * float(value) for weight, value in zip(weights, single, strict=True)) / sum(weights)
    assert float(self_adaptive_loss(LOGITS, TARGETS)) == pytest.approx(expected, rel=1e-12)
    halves = [
        self_adaptive_loss(LOGITS[part], TARGETS[part], mean_sureness=TARGETS.amax(1).mean(), reduction="sum")
        for part in (slice(3), slice(3, None))
    ]
    assert float(sum(halves)) / len(LABELS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("function", [early_learning_targets, early_learning_regularization, self_adaptive_targets, self_adaptive_loss])
def test_targets_must_have_the_shape_of_the_logits(function) -> None:
    with pytest.raises(ShapeError, match=r"targets .* and logits"):
        function(*((LOGITS, TARGETS[:2]) if function.__name__.endswith(("loss", "regularization")) else (TARGETS[:2], LOGITS)))
