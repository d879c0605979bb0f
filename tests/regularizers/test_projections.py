"""Projections onto balls: against the conditions that define them, and against other algorithms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.functional import project_batchnorm, project_frob, project_infop, project_infop_exact
from holdfast.regularizers.projections import BLOCK, frob_distance, project_frob_all_, row_sums

Seeded = Callable[[int], torch.Generator]
Projection = Callable[..., Tensor]
ALL = [project_frob, project_infop, project_infop_exact]
NEAREST = [project_frob, project_infop_exact]


def some(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """A start and a weight at some distance from it."""
    start = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (start + spread * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype), start.to(dtype)


def norms(projection: Projection, difference: Tensor) -> Tensor:
    """The norms that a projection bounds."""
    wide = difference.double()
    return wide.norm()[None] if projection is project_frob else wide.abs().flatten(1).sum(dim=1)


@pytest.mark.parametrize("projection", ALL)
@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("share", [0.9, 0.3, 1e-2, 1e-4], ids="{:g}".format)
def test_the_result_is_in_the_ball(projection: Projection, dtype: torch.dtype, slack: float, share: float, seeded: Seeded) -> None:
    # Entries around 0, so that the rounding of a weight is small beside its distance from the start.
    weight, start = some(seeded(0), 40, 5, 3, 3, dtype=dtype, spread=30.0)
    start = start / 100
    radius = share * float(norms(projection, weight - start).max())
    assert norms(projection, projection(weight, start, radius) - start).max() <= radius * (1 + slack)
    assert norms(projection, projection(weight, None, radius)).max() <= radius * (1 + slack)


@pytest.mark.parametrize("projection", ALL)
def test_millions_of_entries_are_in_the_ball_too(projection: Projection, seeded: Seeded) -> None:
    weight, start = some(seeded(1), 512, 9 * BLOCK // 512, dtype=torch.float32)
    radius = 0.5 * float(norms(projection, weight - start).max())
    distance = norms(projection, projection(weight, start, radius) - start).max()
    assert 1 - 1e-5 <= distance / radius <= 1 + 1e-5


@pytest.mark.parametrize("projection", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_inside_the_ball_nothing_changes_to_the_bit(projection: Projection, dtype: torch.dtype, seeded: Seeded) -> None:
    weight, start = some(seeded(2), 6, 7, dtype=dtype)
    radius = 1.001 * float(norms(projection, weight - start).max())
    assert torch.equal(projection(weight, start, radius), weight)
    assert torch.equal(projection(weight, None, 1e6), weight)


@pytest.mark.parametrize("projection", ALL)
def test_radius_0_is_the_start_to_the_bit_even_where_nothing_moved(projection: Projection, seeded: Seeded) -> None:
    weight, start = some(seeded(3), 6, 7, dtype=torch.float32)
    weight[2] = start[2]
    assert torch.equal(projection(weight, start, 0.0), start)
    assert torch.equal(projection(weight, None, 0.0), torch.zeros_like(weight))
    assert torch.equal(projection(start, start, 0.0), start)
    zeros = torch.zeros(3, 4)
    assert torch.equal(projection(zeros, zeros, 0.0), zeros)


@pytest.mark.parametrize("projection", ALL)
def test_a_second_projection_changes_one_rounding_at_most(projection: Projection, seeded: Seeded) -> None:
    weight, start = some(seeded(4), 30, 20, dtype=torch.float32)
    radius = 0.4 * float(norms(projection, weight - start).max())
    once = projection(weight, start, radius)
    torch.testing.assert_close(projection(once, start, radius), once, rtol=4e-7, atol=1e-7)
    assert torch.equal(projection(weight, start, radius), once)


@pytest.mark.parametrize("projection", ALL)
def test_arguments_stay_as_they_are_and_no_gradient_flows(projection: Projection, seeded: Seeded) -> None:
    weight, start = some(seeded(5), 4, 3)
    kept = weight.clone(), start.clone()
    assert not projection(weight.requires_grad_(), start, 0.1).requires_grad
    assert torch.equal(weight.detach(), kept[0])
    assert torch.equal(start, kept[1])


@pytest.mark.parametrize("projection", NEAREST)
def test_it_is_the_nearest_point_that_an_optimizer_finds(projection: Projection, seeded: Seeded) -> None:
    weight, start = some(seeded(6), 2, 3, spread=1.0)
    radius = 0.6 * float(norms(projection, weight - start).min())
    target = (weight - start).numpy()

    def room(flat: np.ndarray) -> np.ndarray:
        # |d| ≤ r in l1 as one linear inequality for each vector of signs; the Euclidean ball as it is.
        moved = flat.reshape(2, 3)
        if projection is project_frob:
            return np.array([radius**2 - (moved**2).sum()])
        signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
        return (radius - moved @ signs).ravel()

    found = minimize(
        lambda flat: ((flat - target.ravel()) ** 2).sum(),
        np.zeros(6),
        constraints={"type": "ineq", "fun": room},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    # Whether SLSQP calls the last digit met depends on the machine; the point itself is compared, and must keep the bound.
    assert room(found.x).min() > -1e-7
    ours = (projection(weight, start, radius) - start).numpy().ravel()
    np.testing.assert_allclose(ours, found.x, atol=1e-6)


def by_sorting(row: Tensor, radius: float) -> Tensor:
    """Duchi et al., figure 1, on one row."""
    if row.abs().sum() <= radius:
        return row
    if radius == 0:
        return torch.zeros_like(row)
    ordered = sorted(row.abs().tolist(), reverse=True)
    threshold, total = 0.0, 0.0
    for count, value in enumerate(ordered, 1):
        total += value
        if value - (total - radius) / count > 0:
            threshold = (total - radius) / count
    return row.sign() * (row.abs() - threshold).clamp(min=0)


@pytest.mark.parametrize("width", [1, 2, 17, 500])
def test_the_exact_projection_of_rows_is_that_by_sorting(width: int, seeded: Seeded) -> None:
    weight, start = some(seeded(7), 6, width)
    weight[3] = start[3]
    weight[4] = start[4] + 0.7  # all magnitudes tie
    radii = torch.tensor([0.0, 1e-9, 0.1, 1.0, 0.2, 1e9], dtype=torch.float64)
    rows = zip(weight - start, radii.tolist(), strict=True)
    expected = start + torch.stack([by_sorting(row, radius) for row, radius in rows])
    torch.testing.assert_close(project_infop_exact(weight, start, radii), expected, rtol=1e-12, atol=1e-12)


def test_scaling_rows_is_another_point_no_nearer_than_the_exact_one(seeded: Seeded) -> None:
    weight, start = some(seeded(8), 5, 9)
    scaled, exact = project_infop(weight, start, 0.5), project_infop_exact(weight, start, 0.5)
    expected = torch.stack([d * min(1.0, 0.5 / float(d.abs().sum())) for d in weight - start]) + start
    torch.testing.assert_close(scaled, expected, rtol=1e-12, atol=1e-12)
    assert (exact - weight).norm() < (scaled - weight).norm() - 1e-3


def test_rows_have_radii_of_their_own(seeded: Seeded) -> None:
    weight, start = some(seeded(9), 2, 3, 4, spread=2.0)
    radii = torch.tensor([[0.1, 0.2, 0.3], [0.4, 1e3, 0.0]], dtype=torch.float64)
    for projection in (project_infop, project_infop_exact):
        sums = (projection(weight, start, radii, rows=2) - start).abs().sum(dim=2)
        inside = (weight - start).abs().sum(dim=2)[1, 1]
        expected = torch.tensor([[0.1, 0.2, 0.3], [0.4, float(inside), 0.0]], dtype=torch.float64)
        torch.testing.assert_close(sums, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 4, 1, 1), (5, 3), (4, 3, 2, 2, 2)])
def test_distances_do_not_depend_on_the_memory_format(shape: tuple[int, ...], seeded: Seeded) -> None:
    weight, start = some(seeded(10), *shape)
    expected = (weight - start).norm().item()
    forms: list[Tensor] = [weight]
    if len(shape) == 4:
        forms.append(weight.contiguous(memory_format=torch.channels_last))
    forms.append(weight.transpose(0, 1).contiguous().transpose(0, 1))
    for form in forms:
        for origin in (start, start.clone(memory_format=torch.preserve_format)):
            assert frob_distance(form, origin) == pytest.approx(expected, rel=1e-12)
        same = start.contiguous(memory_format=torch.channels_last) if form.ndim == 4 else start
        assert frob_distance(form, same) == pytest.approx(expected, rel=1e-12)
        assert frob_distance(form, None) == pytest.approx(weight.norm().item(), rel=1e-12)
        torch.testing.assert_close(project_frob(form, same, 0.1), project_frob(weight, start, 0.1))
        torch.testing.assert_close(project_infop_exact(form, same, 0.1), project_infop_exact(weight, start, 0.1))


def test_blocks_add_up(seeded: Seeded) -> None:
    weight, start = some(seeded(11), 2 * BLOCK + 5, dtype=torch.float32)
    assert frob_distance(weight, start) == pytest.approx((weight.double() - start.double()).norm().item(), rel=1e-6)


def test_many_at_once_without_waiting_for_the_device_are_the_same(seeded: Seeded) -> None:
    pairs = [some(seeded(number), 3, 4) for number in range(5)]
    radii = torch.tensor([0.0, 0.1, 1.0, 1e6, 0.5], dtype=torch.float64)
    starts = [None if number == 4 else start for number, (_, start) in enumerate(pairs)]
    weights = [weight.clone() for weight, _ in pairs]
    distances = project_frob_all_(weights, starts, radii)
    for (weight, _), start, radius, distance, ours in zip(pairs, starts, radii.tolist(), distances.tolist(), weights, strict=True):
        assert distance == pytest.approx(frob_distance(weight, start), rel=1e-12)
        torch.testing.assert_close(ours, project_frob(weight, start, radius), rtol=1e-12, atol=1e-14)
    assert torch.equal(weights[0], pairs[0][1])
    assert torch.equal(weights[3], pairs[3][0])


def test_weights_in_half_precision_are_measured_in_float32(seeded: Seeded) -> None:
    weight, start = some(seeded(12), 64, 64, dtype=torch.bfloat16)
    exact = (weight.double() - start.double()).norm().item()
    assert frob_distance(weight, start) == pytest.approx(exact, rel=1e-6)
    for projection in ALL:
        radius = 0.5 * float(norms(projection, weight - start).max())
        projected = projection(weight, start, radius)
        assert projected.dtype is torch.bfloat16
        assert norms(projection, projected.double() - start.double()).max() <= 1.02 * radius  # rounded to 8 bits
    torch.testing.assert_close(row_sums(weight, None).double(), weight.double().abs().sum(dim=1), rtol=1e-6, atol=0)


def test_batchnorm_is_clamped_channel_by_channel_as_a_diagonal_matrix() -> None:
    scale, variance = torch.tensor([3.0, -2.0, 1.0, 0.5]), torch.tensor([4.0, 1.0, 1.0, 0.25])
    start, start_variance = torch.ones(4), torch.ones(4)
    # d = 1.5, -2, 1, 1 and d_s = 1 everywhere; the last moved by its variance alone, which cancels here.
    moved = project_batchnorm(scale, variance, start, start_variance, 0.25, eps=0.0)
    torch.testing.assert_close(moved, torch.tensor([2.5, 0.75, 1.0, 0.5]))
    assert torch.equal(moved[2:], scale[2:])
    drifted = project_batchnorm(torch.ones(1), torch.tensor([4.0]), torch.ones(1), torch.ones(1), 0.25, eps=0.0)
    torch.testing.assert_close(drifted, torch.tensor([1.5]))  # γ moves although training left it alone
    zero = torch.zeros(1)
    assert torch.equal(project_batchnorm(zero, torch.ones(1), zero, torch.ones(1), torch.zeros(1)), zero)


@pytest.mark.parametrize("projection", ALL)
def test_wrong_arguments_are_named(projection: Projection) -> None:
    with pytest.raises(ShapeError, match=r"weight \(2, 3\) and start \(3, 2\) must have the same shape"):
        projection(torch.ones(2, 3), torch.ones(3, 2), 1.0)
    with pytest.raises(ShapeError, match=r"radius must be at least 0, got -1"):
        projection(torch.ones(2, 3), torch.ones(2, 3), -1.0)
