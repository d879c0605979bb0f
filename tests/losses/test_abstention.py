from __future__ import annotations

import pytest
import torch
from tests.losses.noisy_cases import logits_and_labels

from holdfast.losses.functional import abstention_loss, abstention_threshold, cross_entropy

LOGITS, LABELS = logits_and_labels()
LABELS = LABELS.clamp(max=2)  # the last of four outputs abstains


def test_loss_is_its_definition() -> None:
    probs = LOGITS.softmax(1)
    abstain = probs[:, -1]
    of_label = probs[torch.arange(len(LABELS)), LABELS]
    saving = (1 - abstain) * -(of_label / (1 - abstain)).log()
    torch.testing.assert_close(
        abstention_loss(LOGITS, LABELS, alpha=0.4, reduction="none"), saving - 0.4 * (1 - abstain).log(), rtol=1e-10, atol=1e-12
    )
    torch.testing.assert_close(abstention_threshold(LOGITS, LABELS, reduction="none"), saving, rtol=1e-10, atol=1e-12)


def test_without_abstaining_it_is_cross_entropy_of_the_classes() -> None:
    never = torch.cat([LOGITS[:, :-1], torch.full((len(LABELS), 1), -1e4, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(abstention_loss(never, LABELS, alpha=5.0), cross_entropy(LOGITS[:, :-1], LABELS).mean(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("alpha", "sign"), [(0.01, -1), (100.0, 1)])
def test_the_price_decides_whether_to_abstain(alpha: float, sign: int) -> None:
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    abstention_loss(logits, torch.tensor([0]), alpha=alpha).backward()
    assert sign * float(logits.grad[0, -1]) > 0


def test_abstaining_pays_below_the_threshold_and_not_above() -> None:
    """At an even prediction among the classes the slope in a changes its sign where α is the threshold over 1 - a."""
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    price = float(abstention_threshold(logits, torch.tensor([0]))) / 0.75  # the cross-entropy among the classes is log 3
    (slope,) = torch.autograd.grad(abstention_loss(logits, torch.tensor([0]), alpha=price * 0.75), logits)
    assert float(slope[0, -1]) == pytest.approx(0, abs=1e-12)
