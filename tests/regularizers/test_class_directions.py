"""AdaRand's prior objective: values by loops, closed gradient against autograd, invariances, Adam against torch.optim."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from holdfast.regularizers.class_directions import adam_update, prior_objective


def means(classes: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(classes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=0, eps=1e-8)


def by_loops(mean: Tensor, running: Tensor, active: Tensor, distance: str) -> tuple[Tensor, Tensor]:
    """The definitions, pair by pair; differentiable."""
    chosen = torch.nonzero(active).flatten().tolist()
    zero = mean.sum() * 0
    squared = distance == "squared-cosine"
    lags = [1 - cosine(mean[k], running[k]) for k in chosen]
    intra = sum((lag**2 if squared else lag for lag in lags), zero) / max(1, len(chosen))
    pairs = [cosine(mean[k], mean[m]) for k in chosen for m in chosen if k != m]
    inter = sum((c**2 if squared else c for c in pairs), zero) / max(1, len(pairs))
    return intra, inter


@pytest.mark.parametrize("distance", ["squared-cosine", "cosine"])
@pytest.mark.parametrize(("classes", "width"), [(4, 9), (9, 4), (5, 5), (2, 3)])
@pytest.mark.parametrize(("intra", "inter"), [(True, True), (True, False), (False, True)])
def test_values_and_gradient_follow_the_definition(classes: int, width: int, intra: bool, inter: bool, distance: str) -> None:
    mean, running = means(classes, width).requires_grad_(), means(classes, width, seed=1)
    active = torch.ones(classes, dtype=torch.bool)
    active[1] = classes < 3
    expected_intra, expected_inter = by_loops(mean, running, active, distance)
    result = prior_objective(mean.detach(), running, active, intra=intra, inter=inter, distance=distance)
    torch.testing.assert_close(result.intra, expected_intra.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(result.inter, expected_inter.detach(), rtol=1e-12, atol=1e-14)
    (expected,) = torch.autograd.grad(intra * expected_intra + inter * expected_inter, mean)
    torch.testing.assert_close(result.gradient, expected, rtol=1e-11, atol=1e-14)


def test_both_gram_matrices_give_the_same() -> None:
    mean, running, active = means(6, 6), means(6, 6, seed=1), torch.ones(7, dtype=torch.bool)
    small = prior_objective(mean, running, active[:6])
    # A seventh, inactive class sends the same six through the D x D route.
    wide = prior_objective(torch.cat([mean, mean[:1]]), torch.cat([running, mean[:1]]), torch.tensor([True] * 6 + [False]))
    torch.testing.assert_close(wide.inter, small.inter, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(wide.gradient[:6], small.gradient, rtol=1e-12, atol=1e-14)
    assert not wide.gradient[6].any()


def test_the_gradient_is_orthogonal_to_each_mean() -> None:
    mean = means(7, 12)
    gradient = prior_objective(mean, means(7, 12, seed=1), torch.ones(7, dtype=torch.bool)).gradient
    assert (gradient * mean).sum(1).abs().max() < 1e-14
    assert gradient.norm() > 1e-3


def test_parallel_running_means_and_orthogonal_means_cost_nothing() -> None:
    mean = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    result = prior_objective(mean, 5 * mean, torch.ones(3, dtype=torch.bool))
    assert (result.intra.item(), result.inter.item(), result.gradient.abs().max().item()) == (0, 0, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_active_classes_have_nothing_between_them(count: int) -> None:
    active = torch.tensor([True] * count + [False] * (3 - count))
    result = prior_objective(means(3, 4), means(3, 4, seed=1), active)
    assert result.inter == 0
    assert (result.intra > 0) == (count == 1)
    assert torch.isfinite(result.gradient).all()
    assert result.gradient.any() == (count == 1)


@pytest.mark.parametrize("classes", [3, 6])  # with four dimensions: one case for each Gram matrix
def test_a_zero_mean_has_cosine_zero_and_no_gradient(classes: int) -> None:
    mean, running = means(classes, 4), means(classes, 4, seed=1)
    mean[1] = 0
    running[2] = 0
    active = torch.ones(classes, dtype=torch.bool)
    result = prior_objective(mean, running, active)
    intra, inter = by_loops(mean, running, active, "squared-cosine")
    torch.testing.assert_close(result.intra, intra, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(result.inter, inter, rtol=1e-12, atol=1e-14)
    assert not result.gradient[1].any()
    assert torch.isfinite(result.gradient).all()
    assert result.gradient.abs().max() < 10


def test_adam_update_is_torch_optim_adam() -> None:
    mine, theirs = means(3, 4), means(3, 4).requires_grad_()
    first, second = torch.zeros_like(mine), torch.zeros_like(mine)
    optimizer = torch.optim.Adam([theirs], lr=0.02, betas=(0.8, 0.95), eps=1e-6)
    for step in range(1, 6):
        gradient = means(3, 4, seed=step)
        theirs.grad = gradient.clone()
        optimizer.step()
        adam_update(mine, gradient, first, second, step, lr=0.02, beta1=0.8, beta2=0.95, eps=1e-6)
    torch.testing.assert_close(mine, theirs.detach(), rtol=1e-13, atol=1e-15)
