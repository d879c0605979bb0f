"""Wrong labels made on purpose: the rule's matrix, exactness, seeds, and the rows that may not change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from holdfast import labels
from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.instance_noise import instance_distributions, truncated_rates

TRUE = np.random.default_rng(0).integers(0, 4, 20_000)
F = np.array([[0.7, 0.1, 0.1, 0.1], [0.0, 0.9, 0.05, 0.05], [0.3, 0.3, 0.4, 0.0], [0.0, 0.0, 0.2, 0.8]])
RULES = {
    "symmetric": lambda **more: labels.inject_symmetric(TRUE, 4, 0.4, **more),
    "self flips": lambda **more: labels.inject_symmetric(TRUE, 4, 0.4, self_flips=True, **more),
    "pair": lambda **more: labels.inject_pair(TRUE, 4, 0.3, **more),
    "asymmetric": lambda **more: labels.inject_asymmetric(TRUE, 4, {0: 2, 3: 1}, 0.3, **more),
    "class prior": lambda **more: labels.inject_class_prior(TRUE, [0.1, 0.2, 0.3, 0.4], 0.5, **more),
    "matrix": lambda **more: labels.inject_from_matrix(TRUE, F, **more),
}


@pytest.mark.parametrize("rule", RULES)
def test_draws_follow_the_matrix_of_the_rule(rule):
    found = RULES[rule](seed=3)
    for true in range(4):
        expected = found.transition[true] * (true == TRUE).sum()
        counts = np.bincount(found.labels[true == TRUE], minlength=4)
        assert (counts[expected == 0] == 0).all()
        if (expected > 0).sum() > 1:
            assert chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize("rule", RULES)
def test_only_the_named_rows_change_and_the_mask_says_which(rule):
    rows = np.arange(0, len(TRUE), 3)
    found = RULES[rule](seed=1, rows=rows)
    others = np.setdiff1d(np.arange(len(TRUE)), rows)
    assert (found.labels[others] == TRUE[others]).all()
    assert np.array_equal(found.flipped, found.labels != TRUE)
    assert found.flipped[rows].any()


def test_the_seed_alone_decides_and_the_global_state_stays():
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    first, again = (labels.inject_symmetric(TRUE, 4, 0.4, seed=5).labels for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, labels.inject_symmetric(TRUE, 4, 0.4, seed=6).labels)
    labels.released_noise(TRUE, 4, 0.4)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.29])
def test_exact_replaces_exactly_the_share(rate):
    found = labels.inject_symmetric(TRUE[:100], 4, rate, exact=True)
    assert found.flipped.sum() == round(100 * rate)  # 0.29 * 100 is 28.999... in floating point


def test_a_matrix_that_is_not_symmetric_is_read_by_true_rows():
    certain = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert labels.draw_labels(np.array([0, 1, 2]), certain, np.array([0.5, 0.5, 0.5])).tolist() == [1, 2, 2]


def test_a_draw_on_the_border_belongs_to_the_class_above_it():
    even = np.full((2, 2), 0.5)
    assert labels.draw_labels(np.array([0, 0, 1]), even, np.array([0.0, 0.5, np.nextafter(0.5, 0)])).tolist() == [0, 1, 0]


def test_the_release_flips_to_itself_too():
    found = labels.released_noise(TRUE, 4, 0.6)
    assert found.flipped.mean() == pytest.approx(0.6 * 3 / 4, abs=0.01)
    assert found.transition[0, 0] == pytest.approx(0.4 + 0.6 / 4)


def test_labels_of_a_model_are_its_classes_and_their_matrix_is_counted():
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    found = labels.inject_from_model([0, 0, 1, 1], probs)
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.transition.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    many = labels.inject_from_model(np.zeros(4000, dtype=int), np.tile([[0.25, 0.75]], (4000, 1)), mode="sample", seed=1)
    assert many.labels.mean() == pytest.approx(0.75, abs=0.03)


def test_instance_noise_has_the_rate_and_depends_on_features():
    features = np.random.default_rng(1).normal(size=(len(TRUE), 5))
    found = labels.inject_instance(TRUE, features, 4, 0.3, seed=2)
    assert found.flipped.mean() == pytest.approx(0.3, abs=0.02)
    rng = np.random.default_rng(2)
    rates, projections = np.array([0.2, 0.5]), rng.normal(size=(4, 5, 4))
    x, y = features[:2], np.array([1, 3])
    distributions = instance_distributions(y, x, rates, projections)
    for row in range(2):
        scores = x[row] @ projections[y[row]]
        weights = [0.0 if k == y[row] else np.exp(scores[k]) for k in range(4)]
        expected = [1 - rates[row] if k == y[row] else rates[row] * weights[k] / sum(weights) for k in range(4)]
        np.testing.assert_allclose(distributions[row], expected, rtol=1e-12)


def test_rates_of_instances_are_a_cut_normal():
    uniforms = (np.arange(10_000) + 0.5) / 10_000
    rates = truncated_rates(0.05, 0.1, uniforms)
    assert rates.min() >= 0
    assert rates.max() <= 1
    grid = np.linspace(0, 1, 20_001)
    density = np.exp(-(((grid - 0.05) / 0.1) ** 2) / 2)
    assert rates.mean() == pytest.approx((grid * density).sum() / density.sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: labels.inject_symmetric(TRUE, 4, 1.0), ConfigError, "rate 1: every label would be replaced"),
        (lambda: labels.inject_pair(TRUE, 4, -0.1), ConfigError, "rate -0.1: expected a share"),
        (lambda: labels.inject_symmetric([0, 4], 4, 0.1), DataError, "entry 1 is class 4"),
        (lambda: labels.inject_asymmetric([0, 1], 2, {0: 5}, 0.1), ConfigError, "mapping 0 -> 5"),
        (lambda: labels.inject_class_prior([0, 1], [0.5, 0.6], 0.1), ConfigError, "sum to 1"),
        (lambda: labels.inject_from_matrix([0], [[0.5, 0.6], [0, 1]]), DataError, "row 0 sums to 1.1"),
        (lambda: labels.inject_symmetric(TRUE, 4, 0.1, rows=[0, 0]), ShapeError, "each once"),
        (lambda: labels.inject_symmetric(TRUE / 2, 4, 0.1), ShapeError, "must be integer classes"),
        (lambda: labels.inject_from_model([0, 1], [[0.5, 0.5]]), ShapeError, "a row for each of the 2 labels"),
        (lambda: labels.inject_from_model([0], [[2.0, -1.0]]), DataError, "give probabilities, not logits"),
        (lambda: labels.inject_instance([0, 1], np.zeros((3, 2)), 2, 0.1), ShapeError, r"features must be \(2, D\)"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
