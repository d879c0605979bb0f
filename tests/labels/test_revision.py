"""Labels revised with the help of known rows: the judge, the likeliest F, and the two together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from holdfast import labels
from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.transition import rho

F = np.array([[0.7, 0.3, 0.0], [0.6, 0.1, 0.3], [0.65, 0.2, 0.15]])
"""As by rules: whatever a thing is, it is mostly called the first class, so that this is no matrix to correct a loss with."""


def problem(size: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, the exact P(true | features), true classes and observed labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, size)
    features = rng.normal(size=(size, 3)) + 1.8 * np.eye(3)[true]
    joint = np.exp(1.8 * features)
    observed = labels.inject_from_matrix(true, F, seed=seed + 1).labels
    return features, joint / joint.sum(axis=1, keepdims=True), true, observed


def objective(probs: np.ndarray, observed: np.ndarray, matrix: np.ndarray, smoothing: float) -> float:
    """What the likeliest F maximises, example by example."""
    fit = sum(np.log(row @ matrix[:, label]) for row, label in zip(probs, observed, strict=True))
    return float(fit + smoothing / len(matrix) * np.log(matrix).sum())


@pytest.mark.parametrize("smoothing", [1.0, 6.0])
def test_no_other_matrix_makes_the_labels_likelier(smoothing: float):
    _, probs, _, observed = problem(60)
    found = labels.likeliest_transition(probs, observed, smoothing=smoothing, iterations=5000, tol=1e-12)

    def loss(scores: np.ndarray) -> float:
        rows = np.exp(scores.reshape(3, 3))
        return -objective(probs, observed, rows / rows.sum(axis=1, keepdims=True), smoothing)

    searched = minimize(loss, np.zeros(9), method="BFGS", options={"gtol": 1e-7})
    rows = np.exp(searched.x.reshape(3, 3))
    np.testing.assert_allclose(found, rows / rows.sum(axis=1, keepdims=True), atol=2e-4)
    assert objective(probs, observed, found, smoothing) == pytest.approx(-searched.fun, abs=1e-6)


def test_it_finds_a_matrix_that_no_loss_is_corrected_with():
    _, probs, _, observed = problem()
    assert rho(F) > 5
    assert np.abs(labels.likeliest_transition(probs, observed) - F).sum() < 0.2


def test_a_class_that_no_example_is_of_is_labelled_evenly():
    probs = np.array([[0.5, 0.5, 0.0]] * 4)
    found = labels.likeliest_transition(probs, np.array([0, 0, 1, 1]), smoothing=0)
    np.testing.assert_allclose(found[2], 1 / 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_posterior_is_bayes_rule():
    rng = np.random.default_rng(0)
    probs, observed = rng.dirichlet(np.ones(3), 20), rng.integers(0, 3, 20)
    found = labels.posterior_of_truth(probs, observed, F)
    for row, label, posterior in zip(probs, observed, found, strict=True):
        joint = [row[true] * F[true, label] for true in range(3)]
        np.testing.assert_allclose(posterior, np.array(joint) / sum(joint))


def test_a_label_that_the_matrix_rules_out_leaves_the_judge_its_say():
    np.testing.assert_array_equal(labels.posterior_of_truth([[0.0, 1.0]], np.array([0]), [[1.0, 0.0], [0.0, 1.0]]), [[0.0, 1.0]])


def test_features_and_labels_together_are_right_more_often_than_each():
    _, probs, true, observed = problem()
    revised = labels.posterior_of_truth(probs, observed, labels.likeliest_transition(probs, observed))
    best = labels.posterior_of_truth(probs, observed, F)
    right = (revised.argmax(axis=1) == true).mean()
    assert right > max((observed == true).mean() + 0.2, (probs.argmax(axis=1) == true).mean() + 0.01)
    assert right > (best.argmax(axis=1) == true).mean() - 0.01


def test_the_judge_learns_from_known_rows_alone_and_its_probabilities_can_be_taken_at_their_word():
    features, exact, true, _ = problem()
    known = np.where(np.arange(len(true)) < 300, true, -1)
    found = labels.judged_by_known(features, known, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    unknown = known < 0
    assert np.abs(found - exact)[unknown].mean() < 0.05
    assert labels.expected_calibration_error(found[unknown], true[unknown]) < 0.05
    np.testing.assert_array_equal(labels.judged_by_known(features[:300], known[:300], 3), found[:300])


def test_a_known_example_is_judged_without_its_own_class():
    features, _, true, _ = problem(200)
    other = true.copy()
    other[7] = (true[7] + 1) % 3
    before, after = (labels.judged_by_known(features, known, 3, folds=len(known) // 40) for known in (true, other))
    assert np.abs(before[7] - after[7]).max() < 0.02  # only the cut into folds and the strength may notice
    assert before[7].argmax() == after[7].argmax()


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: labels.judged_by_known(np.zeros((3, 2)), np.array([0, 2, -1]), 3), DataError, "class 1 has no example whose truth is"),
        (lambda: labels.likeliest_transition(np.full((2, 2), 0.5), np.array([0, 2])), DataError, "entry 1 is class 2"),
        (lambda: labels.likeliest_transition(np.full((2, 2), 0.5), np.array([0, 1]), smoothing=-1), ConfigError, "smoothing"),
        (lambda: labels.posterior_of_truth(np.full((2, 2), 0.5), np.array([0]), np.eye(2)), ShapeError, "of one length, got 2 and 1"),
        (lambda: labels.posterior_of_truth(np.full((1, 2), 0.5), np.array([0]), np.eye(3)), ShapeError, r"transition must be \(2, 2\)"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call, error, sentence: str):
    with pytest.raises(error, match=sentence):
        call()
