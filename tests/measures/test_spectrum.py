"""Eigenvalues and densities of matrices whose spectrum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.measures.lanczos import Lanczos
from holdfast.measures.measurement import Budget
from holdfast.measures.spectrum import spectral_density, top_eigenvalues

VALUES = torch.cat([torch.linspace(-1, 1, 90), torch.tensor([-9.0, -4.0, 3.0, 5.0, 8.0, 12.0])]).double()


def matrix() -> Tensor:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(len(VALUES), len(VALUES), dtype=torch.float64)).Q
    return (basis * VALUES) @ basis.T


@pytest.mark.parametrize(
    ("which", "expected"), [("largest", [12.0, 8.0, 5.0]), ("smallest", [-9.0, -4.0, -1.0]), ("magnitude", [12.0, -9.0, 8.0])]
)
def test_extreme_eigenvalues_lie_within_their_residuals(which: str, expected: list[float]) -> None:
    found = top_eigenvalues(matrix(), 3, which=which, rtol=1e-6)
    assert found.met
    assert found.products < 60
    assert max(found.residuals) <= 1e-6 * 12.1
    assert all(
        abs(value - truth) <= residual + 1e-10 for value, truth, residual in zip(found.values, expected, found.residuals, strict=True)
    )
    errors = matrix() @ found.vectors - found.vectors * torch.tensor(found.values, dtype=torch.float64)
    torch.testing.assert_close(errors.norm(dim=0), torch.tensor(found.residuals, dtype=torch.float64), rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(found.vectors.norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_basis_stays_orthonormal_and_breakdown_is_exact() -> None:
    dense = matrix()
    lanczos = Lanczos(torch.ones(len(VALUES), dtype=torch.float64))
    for _ in range(60):
        lanczos.advance(dense @ lanczos.vector)
    torch.testing.assert_close(lanczos.basis @ lanczos.basis.T, torch.eye(60, dtype=torch.float64), rtol=0, atol=1e-12)
    few = top_eigenvalues(torch.diag(torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0])).double(), 5)
    assert few.met
    assert few.products == 2  # one start vector finds one copy of each
    assert few.values == pytest.approx((2.0, 1.0))
    assert top_eigenvalues(torch.zeros(4, 4), 1).values == (0.0,)


def test_basis_in_float32_is_orthonormal_to_rounding() -> None:
    dense = matrix().float()
    lanczos = Lanczos(torch.ones(len(VALUES)))
    for _ in range(60):
        lanczos.advance(dense @ lanczos.vector)
    torch.testing.assert_close(lanczos.basis @ lanczos.basis.T, torch.eye(60), rtol=0, atol=2e-6)
    assert lanczos.eigh()[0].max() == pytest.approx(12, rel=1e-5)


def test_products_with_errors_along_the_basis_leave_it_orthonormal() -> None:
    dense = matrix().float()
    lanczos = Lanczos(torch.ones(len(VALUES)))
    for _ in range(20):
        product = dense @ lanczos.vector
        lanczos.advance(product + 1e3 * lanczos.basis[0] if len(lanczos.alpha) > 2 else product)
    torch.testing.assert_close(lanczos.basis @ lanczos.basis.T, torch.eye(20), rtol=0, atol=2e-6)


def test_length_of_the_start_does_not_count() -> None:
    dense, start = matrix().float(), torch.linspace(-1, 1, len(VALUES))
    recursions = [Lanczos(start), Lanczos(1e-30 * start)]
    for recursion in recursions:
        for _ in range(3):
            recursion.advance(dense @ recursion.vector)
    assert recursions[1].alpha == pytest.approx(recursions[0].alpha, rel=1e-4)


def test_combinations_of_the_basis_are_those_of_its_rows() -> None:
    dense = matrix()
    lanczos = Lanczos(torch.ones(len(VALUES), dtype=torch.float64))
    for _ in range(19):
        lanczos.advance(dense @ lanczos.vector)
    coefficients = torch.randn(19, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(lanczos.combine(coefficients), lanczos.basis.T @ coefficients)


def test_unmet_tolerance_and_budget_are_told() -> None:
    found = top_eigenvalues(matrix(), 3, budget=Budget(products=4))
    assert (found.products, found.met) == (4, False)
    assert not top_eigenvalues(matrix(), 3, max_steps=5).met
    with pytest.raises(ConfigError, match="k must be from 1 to 96"):
        top_eigenvalues(matrix(), 97)


def test_density_integrates_to_one_and_traces_are_within_their_error() -> None:
    found = spectral_density(matrix(), steps=40, probes=30)
    assert np.trapezoid(found.density, found.grid) == pytest.approx(1, abs=1e-3)
    for measured, truth in (
        (found.trace, VALUES.sum()),
        (found.positive_trace, VALUES.clamp_min(0).sum()),
        (found.negative_trace, VALUES.clamp_max(0).sum()),
    ):
        assert abs(measured.value - float(truth)) < 4 * measured.stderr
        assert measured.stderr < 6
    assert found.negative_mass == pytest.approx(47 / 96, abs=0.06)
    assert found.trace.value == pytest.approx(found.positive_trace.value + found.negative_trace.value)
    assert (found.products, found.met) == (30 * 40, True)


def test_density_from_every_unit_vector_is_that_of_the_exact_eigenvalues() -> None:
    dense = matrix()
    found = spectral_density(dense, steps=96, starts=list(torch.eye(96, dtype=torch.float64)), sigma=0.3)
    bumps = np.exp(-0.5 * ((found.grid[:, None] - VALUES.numpy()) / 0.3) ** 2) / (0.3 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(found.density, bumps.mean(axis=1), atol=1e-8)
    assert found.positive_trace.value == pytest.approx(float(VALUES.clamp_min(0).sum()))
    assert found.effective_rank == pytest.approx(float(VALUES.clamp_min(0).sum() ** 2 / VALUES.square().sum()))


def test_density_leaves_out_vectors_that_the_budget_has_no_room_for() -> None:
    found = spectral_density(matrix(), steps=10, budget=Budget(products=25))
    assert (len(found.nodes), found.products, found.met) == (2, 20, False)
    with pytest.raises(ConfigError, match="do not fit into it"):
        spectral_density(matrix(), steps=10, budget=Budget(products=9))


def test_the_trace_is_settled_at_once_and_a_bend_within_the_spectrum_is_not() -> None:
    short = spectral_density(matrix(), steps=8, probes=3)
    assert short.change_of(lambda values: values) == pytest.approx(0, abs=1e-9 * abs(short.trace.value))
    assert short.change_of(lambda values: values.clip(min=0)) > 0.005 * short.positive_trace.value
    whole = spectral_density(matrix(), steps=96, probes=3)
    assert whole.change_of(lambda values: values.clip(min=0)) < 1e-3 * whole.positive_trace.value


def test_change_is_that_of_the_last_quarter_of_the_steps() -> None:
    starts = [torch.linspace(-1, 2, len(VALUES), dtype=torch.float64)]
    long, sooner = (spectral_density(matrix(), steps=steps, starts=starts) for steps in (12, 9))
    assert long.change_of(np.square) == pytest.approx(0, abs=1e-8)
    expected = abs(long.trace_of(np.abs).value - sooner.trace_of(np.abs).value)
    assert long.change_of(np.abs) == pytest.approx(expected, rel=1e-6)
