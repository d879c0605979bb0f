"""The regression finds the minimum that other solvers approach."""

from __future__ import annotations

import logging

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.multinomial import fit_multinomial


def examples(classes: int, count: int = 40, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    inputs = (3 * torch.randn(count, width, generator=generator, dtype=torch.float64)).softmax(dim=1)
    return inputs, torch.arange(count) % classes


def objective(coefficients: Tensor, inputs: Tensor, labels: Tensor, strength: float) -> Tensor:
    """As defined, one example at a time."""
    losses = [torch.logsumexp(coefficients @ x, 0) - coefficients[y] @ x for x, y in zip(inputs, labels, strict=True)]
    return strength * torch.stack(losses).sum() + 0.5 * (coefficients**2).sum()


@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("classes", [2, 3])
def test_no_coefficients_are_better(classes: int, strength: float) -> None:
    inputs, labels = examples(classes)
    found = fit_multinomial(inputs, labels, strength, torch.zeros(classes, 6, dtype=torch.float64))
    assert found.shape == (classes, 6)  # two classes have two rows as well
    leaf = found.clone().requires_grad_()
    objective(leaf, inputs, labels, strength).backward()
    assert float(leaf.grad.norm()) < 1e-7 * max(1.0, strength)
    torch.testing.assert_close(found.sum(dim=0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-6)


def test_another_solver_finds_the_same_coefficients() -> None:
    inputs, labels = examples(3)

    def value_and_slope(flat: object) -> tuple[float, object]:
        leaf = torch.as_tensor(flat).reshape(3, 6).clone().requires_grad_()
        value = objective(leaf, inputs, labels, 30.0)
        value.backward()
        return float(value.detach()), leaf.grad.numpy().ravel()

    theirs = minimize(value_and_slope, torch.zeros(18).double().numpy(), jac=True, method="BFGS", options={"gtol": 1e-7}).x
    ours = fit_multinomial(inputs, labels, 30.0, torch.zeros(3, 6, dtype=torch.float64))
    torch.testing.assert_close(ours, torch.as_tensor(theirs).reshape(3, 6), rtol=0, atol=1e-6)


def test_the_start_does_not_matter() -> None:
    inputs, labels = examples(3)
    far = 50 * torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    from_zero, from_far = (fit_multinomial(inputs, labels, 100.0, start) for start in (torch.zeros_like(far), far))
    torch.testing.assert_close(from_zero, from_far, rtol=1e-8, atol=1e-8)


def test_the_bound_on_the_distance_holds_and_ends_the_fit() -> None:
    inputs, labels = examples(3)
    start = torch.zeros(3, 6, dtype=torch.float64)
    minimiser = fit_multinomial(inputs, labels, 100.0, start)
    seen: list[float] = []

    def enough(coefficients: Tensor, distance: float) -> bool:
        assert float((coefficients - minimiser).norm()) <= distance + 1e-9
        seen.append(distance)
        return distance < 1.0

    ended = fit_multinomial(inputs, labels, 100.0, start, enough=enough)
    assert 1e-9 < float((ended - minimiser).norm()) < 1.0
    assert len(seen) > 2
    assert seen[-2] >= 1.0


def test_classes_apart_from_each_other_are_no_trouble() -> None:
    inputs, labels = torch.eye(4, dtype=torch.float64).repeat(5, 1), torch.arange(4).repeat(5)
    found = fit_multinomial(inputs, labels, 1e4, torch.zeros(4, 4, dtype=torch.float64))
    assert bool(found.isfinite().all())
    assert torch.equal((inputs @ found.T).argmax(dim=1), labels)


def test_too_few_steps_are_said(caplog: pytest.LogCaptureFixture) -> None:
    inputs, labels = examples(3)
    with caplog.at_level(logging.WARNING, "holdfast"):
        fit_multinomial(inputs, labels, 100.0, torch.zeros(3, 6, dtype=torch.float64), steps=1)
    assert "1 Newton steps left a gradient" in caplog.text


def test_labels_must_fit() -> None:
    inputs, labels = examples(3)
    with pytest.raises(ShapeError, match="labels"):
        fit_multinomial(inputs, labels[1:], 1.0, torch.zeros(3, 6, dtype=torch.float64))
