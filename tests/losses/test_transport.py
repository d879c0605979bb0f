from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.losses.functional import class_costs, select_source_classes, unbalanced_plan


def means(classes: int, width: int, seed: int) -> Tensor:
    return torch.randn(classes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_costs_do_not_depend_on_the_length_of_the_means() -> None:
    source, target = means(6, 4, 0), means(3, 4, 1)
    scaled = source * torch.arange(1.0, 7.0)[:, None]
    torch.testing.assert_close(class_costs(scaled, 5 * target), class_costs(source, target))
    expected = [[(1 - float(s @ t / s.norm() / t.norm())) / 0.1 for t in target] for s in source]
    torch.testing.assert_close(class_costs(source, target), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("epsilon", "rho_source", "rho_target"), [(1.0, 1.0, 100.0), (0.3, 2.0, 5.0), (2.0, 0.5, 0.5)])
def test_the_plan_is_that_of_an_independent_solver(epsilon: float, rho_source: float, rho_target: float) -> None:
    unbalanced = pytest.importorskip("ot.unbalanced", reason="the package pot is not installed")
    costs = class_costs(means(9, 5, 2), means(4, 5, 3))
    prices = {"rho_source": rho_source, "rho_target": rho_target}
    plan, iterations = unbalanced_plan(costs, epsilon=epsilon, **prices, tolerance=1e-14, iterations=20000)
    # Relative entropy with respect to the product of unit masses is the entropy meant here.
    expected = unbalanced.sinkhorn_unbalanced(
        np.ones(9), np.ones(4), costs.numpy(), epsilon, (rho_source, rho_target), reg_type="kl", stopThr=1e-15, numItermax=20000
    )
    assert iterations < 20000
    torch.testing.assert_close(plan, torch.as_tensor(expected), rtol=1e-8, atol=1e-12)


def test_the_plan_is_stationary() -> None:
    costs = class_costs(means(5, 3, 4), means(3, 3, 5))
    plan = unbalanced_plan(costs, tolerance=1e-15, iterations=20000).plan.requires_grad_()

    def divergence(mass: Tensor) -> Tensor:
        return (mass * mass.log() - mass + 1).sum()

    objective = (plan * costs).sum() + (plan * (plan.log() - 1)).sum() + divergence(plan.sum(1)) + 100 * divergence(plan.sum(0))
    (gradient,) = torch.autograd.grad(objective, plan)
    assert float(gradient.abs().max()) < 1e-9


def test_large_costs_do_not_underflow() -> None:
    costs = class_costs(means(6, 4, 0), means(3, 4, 1), scale=1e-4)  # up to 20000, beyond what exp can hold
    plan = unbalanced_plan(costs).plan
    assert bool(plan.isfinite().all())
    assert plan.sum(dim=0).min() > 0
    assert plan.argmax(dim=0).tolist() == costs.argmin(dim=0).tolist()


def test_the_iterations_end_where_they_are_told_to() -> None:
    assert unbalanced_plan(class_costs(means(6, 4, 0), means(3, 4, 1)), iterations=2).iterations == 2


def test_the_first_of_equal_classes_are_selected_and_all_where_there_are_few() -> None:
    importance = torch.tensor([0.5, 0.2, 0.5, 0.5])
    assert select_source_classes(importance, 2).tolist() == [0, 2]
    assert select_source_classes(importance, 9).tolist() == [0, 1, 2, 3]
