"""Soft distance penalties against loops, and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.functional import frob_penalty, infop_penalty


def pairs(generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    shapes = ((4, 3), (5, 2, 3, 3), (6,))
    draws = [torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [draw[0].requires_grad_() for draw in draws], [draw[1] for draw in draws]


def test_the_penalties_are_their_definitions(seeded: Callable[[int], torch.Generator]) -> None:
    weights, starts = pairs(seeded(0))
    squares = largest = 0.0
    for weight, start in zip(weights, starts, strict=True):
        rows = (weight - start).detach().reshape(len(weight), -1).tolist()
        squares += sum(entry**2 for row in rows for entry in row)
        largest += max(sum(abs(entry) for entry in row) for row in rows)
    assert float(frob_penalty(weights, starts).detach()) == pytest.approx(squares, rel=1e-12)
    assert float(infop_penalty(weights, starts).detach()) == pytest.approx(largest, rel=1e-12)
    zeros = [torch.zeros_like(start) for start in starts]
    for penalty in (frob_penalty, infop_penalty):
        assert penalty(weights).item() == pytest.approx(penalty(weights, zeros).item(), rel=1e-12)


@pytest.mark.parametrize("penalty", [frob_penalty, infop_penalty])
def test_gradients_are_slopes(penalty: Callable[..., Tensor], seeded: Callable[[int], torch.Generator]) -> None:
    weights, starts = pairs(seeded(1))
    assert torch.autograd.gradcheck(lambda *free: 3 * penalty(free, starts), tuple(weights))
    assert torch.autograd.gradcheck(lambda *free: penalty(free), tuple(weights))


@pytest.mark.parametrize("penalty", [frob_penalty, infop_penalty])
def test_at_the_start_value_and_gradient_are_0(penalty: Callable[..., Tensor], seeded: Callable[[int], torch.Generator]) -> None:
    _, starts = pairs(seeded(2))
    weights = [start.clone().requires_grad_() for start in starts]
    value = penalty(weights, starts)
    value.backward()
    assert value.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in weights)


def test_only_the_largest_row_has_a_gradient_and_of_several_the_first() -> None:
    weight = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    infop_penalty([weight]).backward()
    assert torch.equal(weight.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match="weights must hold at least one tensor, got none"):
        infop_penalty([])
    with pytest.raises(ShapeError, match="must match one to one, got 1 and 2 tensors"):
        infop_penalty([torch.ones(2)], [torch.ones(2), torch.ones(2)])
    with pytest.raises(ShapeError, match=r"weights\[0\] \(2,\) and starts\[0\] \(3,\) must have the same shape"):
        infop_penalty([torch.ones(2)], [torch.ones(3)])
