from __future__ import annotations

import math

import pytest
import torch

from holdfast.errors import ConfigError, ShapeError
from holdfast.measures.bounds import (
    BoundSetting,
    cross_entropy_ceiling,
    distance_bound,
    hessian_bound,
    isotropic_variance,
    label_noise_factor,
    rank_one_scale,
)

SETTING = BoundSetting(n=400, ceiling=4.0, empirical_loss=0.5, eps=0.1)


def test_terms_sum_to_the_measure_and_the_bound_adds_the_empirical_loss() -> None:
    bound = hessian_bound({"conv": 1.0, "head": 0.25}, SETTING)
    assert bound.terms == pytest.approx({"conv": 0.1, "head": 0.05})  # √(4 · 1 / 400), √(4 · 0.25 / 400)
    assert bound.measure == pytest.approx(0.15)
    assert bound.value == pytest.approx(1.1 * 0.65)
    assert bound.shares == pytest.approx({"conv": 2 / 3, "head": 1 / 3})
    assert bound.tight == pytest.approx(0.15 * 0.5**0.5)
    assert not bound.vacuous
    assert not bound.gap_vacuous
    assert "at most 0.715" in bound.verdict


def test_the_order_of_layers_does_not_matter() -> None:
    values = {f"layer{i}": 10.0 ** (i - 8) for i in range(16)}
    backwards = dict(reversed(values.items()))
    assert hessian_bound(values, SETTING).measure == hessian_bound(backwards, SETTING).measure


def test_distance_form_is_never_below_the_hessian_form(seeded) -> None:
    draws = torch.randn(6, 5, 5, generator=seeded(0), dtype=torch.float64)
    moves = torch.randn(6, 5, generator=seeded(1), dtype=torch.float64)
    h, alpha, trace = {}, {}, {}
    for number, (draw, move) in enumerate(zip(draws, moves, strict=True)):
        values, vectors = torch.linalg.eigh(draw + draw.T)
        positive = vectors * values.clamp_min(0) @ vectors.T
        h[str(number)], alpha[str(number)] = float(move @ positive @ move), float(move.norm())
        trace[str(number)] = float(positive.trace())
    by_hessian, by_distance = hessian_bound(h, SETTING), distance_bound(alpha, trace, SETTING)
    assert all(by_hessian.terms[name] <= by_distance.terms[name] for name in h)
    assert by_hessian.value < by_distance.value


def test_no_curvature_leaves_the_empirical_loss() -> None:
    bound = hessian_bound({"a": 0.0, "b": 0.0}, SETTING)
    assert bound.value == pytest.approx(1.1 * 0.5)
    assert bound.shares == {"a": 0.0, "b": 0.0}


def test_a_vacuous_bound_is_called_so() -> None:
    setting = BoundSetting(n=4, ceiling=1.0, empirical_loss=0.5, eps=0.0)
    at_the_edge = hessian_bound({"a": 1.0}, setting)  # 0.5 + √(1 · 1 / 4) is the ceiling itself
    assert at_the_edge.value == 1.0
    assert at_the_edge.vacuous
    assert not at_the_edge.gap_vacuous
    assert "Vacuous" in at_the_edge.verdict
    assert "says nothing" in at_the_edge.verdict
    assert hessian_bound({"a": 4.0}, setting).gap_vacuous
    assert not hessian_bound({"a": 0.99}, setting).vacuous


def test_negative_curvature_is_clipped_by_name_only_where_no_positive_part_was_taken() -> None:
    values = {"a": 1.0, "b": -3.0, "c": 0.0}
    bound = hessian_bound(values, SETTING, psd=False)
    assert bound.terms == pytest.approx({"a": 0.1, "b": 0.0, "c": 0.0})
    assert bound.clipped == ("b",)
    assert any("Negative curvature was counted as 0 for b" in sentence for sentence in bound.assumptions)
    assert hessian_bound({"a": 1.0}, SETTING, psd=False).clipped == ()
    with pytest.raises(ConfigError, match=r"hessian_distances: b must be at least 0, got -3.0; pass psd=False"):
        hessian_bound(values, SETTING)


def test_assumptions_say_what_was_measured_and_what_was_left_out() -> None:
    over = {way: " ".join(hessian_bound({"a": 1.0}, SETTING, over=way).assumptions) for way in ("sample", "batch", "mean")}
    assert len(set(over.values())) == 3
    assert "may be far too small" in over["mean"]
    assert all("n^(-3/4)" in text and "0.99" in text and "between 0 and 4." in text for text in over.values())
    seen = BoundSetting(n=10, ceiling=4.0, empirical_loss=0.5, ceiling_observed=True)
    assert "an estimate" in hessian_bound({"a": 1.0}, seen).assumptions[0]
    assert "an estimate" not in over["sample"]


def test_label_noise_multiplies_the_sum_but_not_the_empirical_loss() -> None:
    clean = distance_bound({"a": 0.5, "b": 1.0}, {"a": 2.0, "b": 3.0}, SETTING)
    noisy = distance_bound({"a": 0.5, "b": 1.0}, {"a": 2.0, "b": 3.0}, SETTING, noise_factor=5.0)
    assert noisy.measure == pytest.approx(5 * clean.measure)
    assert noisy.value == pytest.approx(1.1 * (0.5 + 5 * clean.measure))
    assert any("multiplied by 5" in sentence for sentence in noisy.assumptions)
    assert not any("multiplied" in sentence for sentence in clean.assumptions)


@pytest.mark.parametrize(("classes", "rate"), [(2, 0.4), (10, 0.4), (4, 0.2)])
def test_noise_factor_of_symmetric_noise_is_the_closed_form(classes: int, rate: float) -> None:
    transition = torch.full((classes, classes), rate / (classes - 1), dtype=torch.float64).fill_diagonal_(1 - rate)
    expected = (1 + rate * (classes - 2) / (classes - 1)) / (1 - rate * classes / (classes - 1))
    assert label_noise_factor(transition) == pytest.approx(expected, rel=1e-12)


def test_noise_factor_takes_rows_not_columns() -> None:
    transition = torch.diag(torch.tensor([1.0, 0.7, 0.7, 0.7], dtype=torch.float64))
    transition[1:, 0] = 0.3
    assert label_noise_factor(transition) == pytest.approx((1 + 0.3) / 0.7)  # the first column sums to 1 + 3 · 0.3 / 0.7
    assert label_noise_factor(torch.eye(3)) == 1.0


@pytest.mark.parametrize(
    ("transition", "words"),
    [
        (torch.full((2, 2), 0.5), "has no inverse"),
        (torch.full((3, 3), 1 / 3, dtype=torch.float64), "has no inverse"),
        (torch.ones(2, 2), "sum to 1"),
        (torch.tensor([[1.5, -0.5], [0.0, 1.0]]), "sum to 1"),
        (torch.ones(2, 3), r"must be \(K, K\)"),
    ],
)
def test_noise_factor_refuses_what_is_no_invertible_transition_matrix(transition: torch.Tensor, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        label_noise_factor(transition)


def test_best_noise_minimises_the_sum_of_its_two_costs() -> None:
    h, alpha, trace, beta = 0.7, 1.3, 2.1, 1 / 1.1
    curvature, distance = (1 - beta) / (2 * beta), SETTING.ceiling / (4 * beta * (1 - beta) * SETTING.n)

    def isotropic(variance: float) -> float:
        return curvature * variance * trace + distance * alpha**2 / variance

    def rank_one(scale: float) -> float:
        return curvature * scale * h + distance / scale

    for cost, best, least in (
        (isotropic, isotropic_variance(alpha, trace, SETTING), distance_bound({"a": alpha}, {"a": trace}, SETTING).tight),
        (rank_one, rank_one_scale(h, SETTING), hessian_bound({"a": h}, SETTING).tight),
    ):
        assert cost(best) < min(cost(0.99 * best), cost(1.01 * best))
        assert cost(best) == pytest.approx(least / beta)


def test_best_noise_is_infinite_without_curvature_and_undefined_without_slack() -> None:
    assert isotropic_variance(1.0, 0.0, SETTING) == rank_one_scale(0.0, SETTING) == math.inf
    with pytest.raises(ConfigError, match="eps must be above 0"):
        rank_one_scale(1.0, BoundSetting(n=4, ceiling=1.0, empirical_loss=0.5, eps=0.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "n must be the number of training examples, 1 or more, got 0"),
        ({"n": 2.5}, "n must be"),
        ({"ceiling": 0.0}, "ceiling must be a positive number"),
        ({"ceiling": math.inf}, "ceiling must be"),
        ({"empirical_loss": -0.1}, "empirical_loss must be 0 or a positive"),
        ({"empirical_loss": math.nan}, "empirical_loss must be"),
        ({"eps": -0.1}, "eps must be 0 or"),
        ({"eps": math.nan}, "eps must be 0 or"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BoundSetting(**{"n": 10, "ceiling": 1.0, "empirical_loss": 0.5, "eps": 0.1} | change)


@pytest.mark.parametrize("psd", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_curvature_that_is_not_finite_is_refused(value: float, psd: bool) -> None:
    with pytest.raises(ConfigError, match="hessian_distances: a must be finite"):
        hessian_bound({"a": value}, SETTING, psd=psd)


def test_distance_bound_refuses_numbers_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"only one has \['b'\]"):
        distance_bound({"a": 1.0, "b": 1.0}, {"a": 1.0}, SETTING)
    with pytest.raises(ConfigError, match="take the trace of the positive part"):
        distance_bound({"a": 1.0}, {"a": -1.0}, SETTING)
    with pytest.raises(ConfigError, match="noise_factor must be 1 for clean labels"):
        distance_bound({"a": 1.0}, {"a": 1.0}, SETTING, noise_factor=0.5)
    with pytest.raises(ConfigError, match="must have a number for one layer at least"):
        hessian_bound({}, SETTING)


def test_ceiling_of_clipped_cross_entropy() -> None:
    assert cross_entropy_ceiling(0.01) == pytest.approx(math.log(100))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        cross_entropy_ceiling(0.0)
