"""What holds for every loss for wrong labels."""

from __future__ import annotations

import pytest
import torch
from tests.losses.noisy_cases import all_losses, logits_and_labels

from holdfast.errors import ShapeError

NAMES = sorted(all_losses(4))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_is_the_slope(name: str, classes: int) -> None:
    logits, labels = logits_and_labels(5, classes)
    loss = all_losses(classes)[name]
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.requires_grad_(), atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_sum_are_those_of_the_single_losses(name: str) -> None:
    logits, labels = logits_and_labels()
    loss = all_losses(4)[name]
    single = loss(logits, labels, reduction="none")
    assert single.shape == (len(labels),)
    torch.testing.assert_close(loss(logits, labels), single.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss(logits, labels, reduction="sum"), single.sum(), rtol=1e-12, atol=0)
    with pytest.raises(ShapeError, match="reduction: expected none, mean or sum, got 'total'"):
        loss(logits, labels, reduction="total")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(name: str, dtype: torch.dtype) -> None:
    logits, labels = logits_and_labels(scale=5.0)
    logits = logits.to(dtype)
    loss = all_losses(4)[name]
    found, exact = loss(logits, labels), loss(logits.double(), labels)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_and_a_thousand_classes_stay_finite(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = (100 * torch.randn(6, 1000, generator=generator)).requires_grad_()
    loss = all_losses(1000)[name](logits, torch.tensor([0, 1, 2, 997, 998, 998]))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"elr", "sat"}))
def test_labels_must_fit_the_logits(name: str) -> None:
    logits, labels = logits_and_labels()
    with pytest.raises(ShapeError, match="labels must be"):
        all_losses(4)[name](logits, labels[:-1])
    with pytest.raises(ShapeError, match=r"logits must be \(B, K\)"):
        all_losses(4)[name](logits[0], labels[:1].expand(4))
