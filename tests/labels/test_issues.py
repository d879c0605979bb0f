"""Suspect labels: rankings against loops and cleanlab, and how good they are on labels that were made wrong."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets
from sklearn.metrics import average_precision_score

from holdfast import labels
from holdfast.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def digits():
    """Out-of-sample probabilities, labels of which a fifth is wrong, and which are."""
    pixels, true = datasets.load_digits(return_X_y=True)
    observed = labels.inject_symmetric(true, 10, 0.2, seed=1).labels
    return labels.cross_validated_probabilities(pixels, observed, 10), observed, observed != true


def test_scores_by_loops():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.4, 0.35, 0.25]])
    observed = np.array([0, 1, 2])
    found = labels.label_issues(probs, observed, score="normalized-margin")
    for row in range(3):
        own = probs[row, observed[row]]
        other = max(probs[row, k] for k in range(3) if k != observed[row])
        assert found.score[row] == pytest.approx((1 + own - other) / 2)
        assert found.margin[row] == pytest.approx(other - own)
    assert found.order.tolist() == [1, 2, 0]
    assert found.suggested.tolist() == [1, 2, 0]
    assert labels.label_issues(probs, observed, score="self-confidence").score.tolist() == [0.7, 0.3, 0.25]


def test_suspects_are_off_the_diagonal_of_the_confident_joint(digits):
    probs, observed, _ = digits
    counts = labels.confident_joint(probs, observed).counts
    assert labels.label_issues(probs, observed).suspect.sum() == counts.sum() - np.trace(counts)


@pytest.mark.parametrize("score", ["self-confidence", "normalized-margin"])
def test_wrong_digits_come_first(digits, score):
    probs, observed, wrong = digits
    order = labels.label_issues(probs, observed, score=score).order
    assert labels.average_precision(wrong, order) > 0.9
    assert labels.precision_at(wrong, order, 100) > 0.95


def test_the_suggested_class_of_a_wrong_label_is_mostly_the_true_one(digits):
    probs, observed, wrong = digits
    true = datasets.load_digits().target
    assert (labels.label_issues(probs, observed).suggested == true)[wrong].mean() > 0.85


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("self-confidence", "self_confidence"),
        ("normalized-margin", "normalized_margin"),
        ("confidence-weighted-entropy", "confidence_weighted_entropy"),
    ],
)
def test_ranking_is_that_of_cleanlab(digits, ours, theirs):
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed")
    probs, observed, wrong = digits
    order = labels.label_issues(probs, observed, score=ours).order
    scores = rank.get_label_quality_scores(observed, probs, method=theirs)
    assert labels.average_precision(wrong, order) == pytest.approx(average_precision_score(wrong, -scores), abs=1e-6)


def test_average_precision_by_definition():
    wrong = np.array([True, False, True, False])
    assert labels.average_precision(wrong, np.array([0, 1, 2, 3])) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(labels.average_precision(np.zeros(4, dtype=bool), np.arange(4)))


def test_each_example_is_judged_by_a_model_that_has_not_seen_it():
    rng = np.random.default_rng(0)
    features, observed = rng.normal(size=(60, 200)), rng.integers(0, 2, 60)  # easily memorised, impossible to predict
    probs = labels.cross_validated_probabilities(features, observed, 2)
    assert (probs.argmax(1) == observed).mean() < 0.75
    np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_rare_classes_and_empty_ones_do_not_stop_the_judge():
    rng = np.random.default_rng(0)
    observed = np.array([0] * 30 + [1] * 30 + [3])
    probs = labels.cross_validated_probabilities(rng.normal(size=(61, 3)) + observed[:, None], observed, 5)
    assert probs.shape == (61, 5)
    assert (probs[:, [2, 4]] == 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: labels.label_issues([[0.5, 0.5]], [0], score="margin"), ConfigError, "score: unknown name 'margin'"),
        (lambda: labels.cross_validated_probabilities(np.zeros((4, 2)), [1, 1, 1, 1], 2), DataError, "all examples are of one class"),
        (lambda: labels.cross_validated_probabilities(np.full((4, 2), np.nan), [0, 1, 0, 1], 2), DataError, "NaN or infinite"),
        (lambda: labels.cross_validated_probabilities(np.zeros((4, 2)), [0, 1, 0, 1], 2, folds=9), ConfigError, "from 2 to 4"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
