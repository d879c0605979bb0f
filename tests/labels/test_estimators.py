"""Estimates of the transition matrix: where each works, where it is known to fail, and what the recommendation makes of that."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from holdfast import labels
from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.estimators import finish
from holdfast.labels.transition import pair, rho, symmetric

K = 4
F = np.array([[0.8, 0.2, 0.0, 0.0], [0.05, 0.7, 0.25, 0.0], [0.0, 0.1, 0.6, 0.3], [0.1, 0.0, 0.0, 0.9]])


def table(matrix, size=6000, sharpness=4.0, seed=0):
    """Examples of a problem whose posterior is known: clean probabilities, noisy ones, true and observed labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, len(matrix), size)
    logits = rng.normal(size=(size, len(matrix))) + sharpness * np.eye(len(matrix))[true]
    joint = np.exp(sharpness * logits - sharpness**2 / 2)  # N(sharpness * e_y, I) gives this posterior
    clean = joint / joint.sum(axis=1, keepdims=True)
    observed = labels.inject_from_matrix(true, matrix, seed=seed + 1).labels
    return clean, clean @ matrix, true, observed


def error(found, matrix=F):
    return np.abs(found - matrix).sum()


def test_on_calibrated_probabilities_anchors_are_right_and_dual_t_counts_the_noise_twice():
    _, noisy, _, observed = table(F)
    assert error(labels.anchors(noisy).transition) < 0.1
    assert error(labels.confident_joint(noisy, observed).transition) < 0.4
    dual = labels.dual_t(noisy, observed).transition
    assert error(dual) > 0.5
    assert error(dual) > 3 * error(labels.anchors(noisy).transition)
    np.testing.assert_allclose(dual, F @ F, atol=0.1)


def test_on_overconfident_probabilities_anchors_see_no_noise_and_dual_t_does():
    clean, _, _, observed = table(F)
    assert error(labels.anchors(clean).transition, np.eye(K)) < 0.01
    assert error(labels.dual_t(clean, observed).transition) < 0.2


@pytest.mark.parametrize(("overconfident", "expected"), [(False, "confident-joint"), (True, "dual-t")])
def test_auto_tells_the_two_apart_and_says_why(overconfident, expected):
    clean, noisy, _, observed = table(F)
    found = labels.estimate_transition(clean if overconfident else noisy, observed)
    assert found.estimator == expected
    assert ("anchors see almost no noise" in found.reason) is overconfident
    assert {found.estimator, *found.others} == {"anchors", "dual-t", "confident-joint"}
    assert error(found.transition) < 0.4
    assert found.rho == pytest.approx(rho(found.transition))


def test_auto_does_not_take_dual_t_for_an_underconfident_model():
    _, noisy, _, observed = table(symmetric(K, 0.2))
    weak = 0.6 * noisy + 0.4 / K
    found = labels.estimate_transition(weak, observed)
    assert found.ece > 0.1
    assert found.estimator == "confident-joint"


def test_a_class_that_is_never_predicted_keeps_its_row_and_is_named(caplog):
    probs = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.4, 0.5, 0.1]])
    with caplog.at_level(logging.WARNING, "holdfast"):
        found = labels.dual_t(probs, [0, 1, 2, 1])
    assert "class 2 is never predicted" in caplog.text
    assert found.spade[2].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.transition.sum(axis=1), 1, rtol=1e-12)


def test_arguments_are_left_as_they_are():
    _, noisy, _, observed = table(F, size=200)
    before, labels_before = noisy.copy(), observed.copy()
    for estimator in ("anchors", "dual-t", "confident-joint"):
        labels.estimate_transition(noisy, observed, estimator=estimator)
    assert np.array_equal(noisy, before)
    assert np.array_equal(observed, labels_before)


def test_the_mean_of_several_anchors_is_their_mean():
    _, noisy, _, _ = table(F, size=300)
    column = noisy[:, 1]
    kept = np.flatnonzero(column < np.sort(column)[int(np.ceil(0.97 * 299))])
    best = kept[np.argsort(-column[kept])[:5]]
    np.testing.assert_allclose(labels.anchors(noisy, top_m=5).rows[1], noisy[best].mean(axis=0), rtol=1e-12)


def test_confident_joint_by_loops():
    _, noisy, _, observed = table(F, size=150)
    thresholds = [np.mean([noisy[i, k] for i in range(150) if observed[i] == k]) for k in range(K)]
    counts = np.zeros((K, K))
    for i in range(150):
        above = [k for k in range(K) if noisy[i, k] >= thresholds[k] - 1e-6]
        if above:
            counts[observed[i], above[0] if len(above) == 1 else int(np.argmax(noisy[i]))] += 1
    for k in range(K):
        counts[k, k] = max(counts[k, k], 1)
    for k in range(K):
        counts[k] *= (observed == k).mean() / counts[k].sum()
    found = labels.confident_joint(noisy, observed)
    np.testing.assert_allclose(found.joint, counts, rtol=1e-12)
    np.testing.assert_allclose(found.transition, (counts / counts.sum(axis=0)).T, rtol=1e-12)


def test_confident_joint_agrees_with_cleanlab():
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    _, noisy, _, observed = table(F, size=400)
    ours = labels.confident_joint(noisy, observed)
    assert np.array_equal(ours.counts, count.compute_confident_joint(observed, noisy, calibrate=False))


def test_intervals_of_the_bootstrap_hold_the_truth_about_as_often_as_they_say():
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, 3, 400)
        matrix = pair(3, 0.3)
        observed = labels.inject_from_matrix(true, matrix, seed=rng).labels
        found = labels.bootstrap(
            lambda rows, t=true, o=observed: labels.from_clean_set(t[rows], o[rows], 3, smoothing=0.0), 400, draws=200, seed=seed
        )
        held.append(((found.low <= matrix) & (matrix <= found.high)).diagonal())
    share = np.mean(held)
    assert abs(share - 0.95) < 3 * np.sqrt(0.95 * 0.05 / np.size(held)) + 0.01  # percentile intervals of a share are a little narrow


def test_clean_rows_give_the_smoothed_counts():
    found = labels.from_clean_set([0, 0, 0, 1], [0, 0, 1, 1], 3, smoothing=2.0)
    right = 3 / 4
    np.testing.assert_allclose(found[0], (np.array([2, 1, 0]) + 2 * np.array([right, 1 / 8, 1 / 8])) / 5, rtol=1e-12)
    np.testing.assert_allclose(found[2], [1 / 8, 1 / 8, right], rtol=1e-12)
    bare = labels.from_clean_set([0, 0, 0, 1, 2], [0, 0, 1, 1, 2], 3, smoothing=0.0)
    np.testing.assert_allclose(bare, [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 0, 1]], atol=1e-12)


def test_a_certain_posterior_gives_the_counts():
    _, _, true, observed = table(F)
    np.testing.assert_allclose(labels.from_posterior(np.eye(K)[true], observed), labels.empirical_transition(true, observed, K), atol=1e-6)


def test_shrinking_ends_at_the_identity():
    np.testing.assert_allclose(finish(F, 1.0), np.eye(K))
    np.testing.assert_allclose(finish(2 * F - 0.4 * np.eye(K), 0.5).sum(axis=1), 1)


def test_corrected_accuracy_is_unbiased():
    rng = np.random.default_rng(0)
    true = rng.integers(0, K, 200_000)
    predicted = np.where(rng.random(len(true)) < 0.8, true, rng.integers(0, K, len(true)))
    observed = labels.inject_from_matrix(true, F, seed=rng).labels
    assert labels.corrected_accuracy(np.linalg.inv(F), observed, predicted) == pytest.approx((true == predicted).mean(), abs=0.01)


def test_calibration_error_by_loops():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), 200)
    found = rng.integers(0, 3, 200)
    total = 0.0
    for low in range(15):
        rows = [i for i in range(200) if low / 15 < probs[i].max() <= (low + 1) / 15]
        if rows:
            gap = np.mean([probs[i].max() for i in rows]) - np.mean([probs[i].argmax() == found[i] for i in rows])
            total += len(rows) / 200 * abs(gap)
    assert labels.expected_calibration_error(probs, found) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: labels.estimate_transition([[0.5, 0.5]], [0], estimator="dualt"), ConfigError, "Did you mean 'dual-t'"),
        (lambda: labels.estimate_transition([[0.5, 0.5]], [0], shrink=2), ConfigError, "shrink"),
        (lambda: labels.anchors([[0.5, 0.5]], percentile=0), ConfigError, "percentile"),
        (lambda: labels.anchors([[0.5, 0.5]], top_m=2), ConfigError, "top_m: expected a whole number from 1 to 1"),
        (lambda: labels.dual_t([[0.5, 0.5]], [2]), DataError, "class 2"),
        (lambda: labels.confident_joint([[0.5, 0.6]], [0]), DataError, "row 0 is no distribution"),
        (lambda: labels.from_clean_set([], np.zeros(0, dtype=int), 2), ShapeError, "integer classes"),
        (lambda: labels.from_clean_set(np.zeros(0, dtype=int), np.zeros(0, dtype=int), 2), DataError, "no example has a known class"),
        (lambda: labels.from_posterior([[0.5, 0.5]], [-1]), DataError, "no example has a label"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
