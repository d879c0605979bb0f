"""The linear probe's solver against its definition and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from holdfast.training.logistic import Linear, accuracy_and_loss, logistic_path, logistic_regression

N, D, K = 60, 5, 3


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Features around three centres that overlap."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, K, N)
    return generator.normal(size=(K, D))[labels] + generator.normal(size=(N, D)), labels


def objective(linear: Linear, features: np.ndarray, labels: np.ndarray, decay: float, weights: np.ndarray) -> float:
    losses = [-log_softmax(linear.weight @ row + linear.bias)[label] for row, label in zip(features, labels, strict=True)]
    return float(np.average(losses, weights=weights) + decay / 2 * np.sum(linear.weight**2))


@pytest.mark.parametrize("bias", [True, False])
def test_the_solution_is_that_of_scikit_learn(problem: tuple[np.ndarray, np.ndarray], bias: bool):
    features, labels = problem
    decay = 0.01
    found = logistic_regression(features, labels, K, decay=decay, bias=bias)
    oracle = LogisticRegression(C=1 / (decay * N), fit_intercept=bias, tol=1e-10, max_iter=5000).fit(features, labels)
    np.testing.assert_allclose(found.weight, oracle.coef_, atol=2e-4)
    # A number added to all biases changes nothing.
    np.testing.assert_allclose(found.bias - found.bias.mean(), oracle.intercept_ - np.mean(oracle.intercept_), atol=2e-4)


def test_no_step_in_any_direction_makes_it_better_and_weights_count(problem: tuple[np.ndarray, np.ndarray]):
    features, labels = problem
    weights = np.random.default_rng(1).uniform(0, 3, N)
    found = logistic_regression(features, labels, K, decay=0.02, weights=weights)
    best = objective(found, features, labels, 0.02, weights)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        near = Linear(found.weight + 1e-2 * generator.normal(size=(K, D)), found.bias + 1e-2 * generator.normal(size=K))
        assert objective(near, features, labels, 0.02, weights) > best


def test_an_example_of_weight_two_is_an_example_twice(problem: tuple[np.ndarray, np.ndarray]):
    features, labels = problem
    weights = np.ones(N)
    weights[:7] = 2
    once = logistic_regression(features, labels, K, decay=0.05, weights=weights)
    twice = logistic_regression(np.concatenate([features, features[:7]]), np.concatenate([labels, labels[:7]]), K, decay=0.05)
    np.testing.assert_allclose(once.weight, twice.weight, atol=1e-4)


def test_features_in_other_units_and_with_another_origin_give_the_same_predictions(problem: tuple[np.ndarray, np.ndarray]):
    features, labels = problem
    moved = 1000 * features + 77
    for decay, linear in logistic_path(features, labels, K).items():
        other = logistic_path(moved, labels, K)[decay]
        np.testing.assert_allclose(other.logits(moved), linear.logits(features), atol=5e-2)


def test_a_class_without_examples_and_features_that_are_all_equal_do_no_harm():
    path = logistic_path(np.ones((4, 2)), np.array([0, 0, 1, 1]), 3)
    for linear in path.values():
        assert np.isfinite(linear.weight).all()
        assert (linear.logits(np.ones((1, 2)))[0, :2] > linear.logits(np.ones((1, 2)))[0, 2]).all()


def test_accuracy_and_loss_are_their_definitions(problem: tuple[np.ndarray, np.ndarray]):
    features, labels = problem
    linear = logistic_regression(features, labels, K, decay=0.1)
    right, loss = accuracy_and_loss(linear, features, labels)
    assert right == np.mean([np.argmax(linear.weight @ row + linear.bias) == label for row, label in zip(features, labels, strict=True)])
    assert loss == pytest.approx(objective(linear, features, labels, 0.0, np.ones(N)))
