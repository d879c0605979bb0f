"""Numbers from stored predictions, against definitions of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tests.report.examples import logits_of
from torchmetrics.functional.classification import multiclass_calibration_error

from holdfast.report import scores
from holdfast.report.scores import Scores, expected_error, wilson
from holdfast.run import Predictions


def judged(labels, classes, logits=None):
    logits = logits_of(labels, classes) if logits is None else logits
    return Scores.of("test", Predictions(logits, labels, labels.astype(str)), classes)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (3, 7), (125, 153), (1, 1)])
def test_the_interval_is_that_of_wilson(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(right, n), (expected.low, expected.high), rtol=1e-9, atol=1e-12)


def test_no_examples_have_no_interval():
    assert wilson(0, 0) is None


@pytest.mark.parametrize("classes", [2, 7])
def test_the_calibration_error_is_that_of_training(classes):
    labels = np.arange(200) % classes
    found = judged(labels, classes)
    probs = torch.tensor(logits_of(labels, classes)).double().softmax(dim=1)
    expected = multiclass_calibration_error(probs, torch.tensor(labels), num_classes=classes, n_bins=15)
    assert expected_error(found.bins()) == pytest.approx(float(expected), abs=1e-6)


def test_bins_hold_every_example_once():
    found = judged(np.arange(100) % 3, 3)
    assert sum(entry.n for entry in found.bins()) == 100
    for entry in found.bins():
        assert (entry.confidence is None) == (entry.n == 0)
        assert entry.confidence is None or entry.low < entry.confidence <= entry.high


def test_a_confidence_of_one_belongs_to_the_last_bin():
    found = judged(np.zeros(4, dtype=np.int64), 2, np.array([[800.0, -800.0]] * 4))
    assert found.bins()[-1] == (14 / 15, 1.0, 4, 1.0, 1.0)


def test_the_loss_and_its_error_are_mean_and_standard_error():
    labels = np.arange(50) % 4
    logits = logits_of(labels, 4).astype(np.float64)
    losses = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none").numpy()
    mean, error = judged(labels, 4).log_loss()
    assert mean == pytest.approx(losses.mean(), rel=1e-9)
    assert error == pytest.approx(losses.std(ddof=1) / math.sqrt(50), rel=1e-9)


def test_one_example_has_a_loss_without_an_error():
    assert judged(np.array([0]), 2).log_loss()[1] is None


def test_extreme_logits_have_a_finite_loss():
    found = judged(np.array([1, 0]), 2, np.array([[1e4, -1e4], [1e4, -1e4]]))
    assert found.log_loss()[0] == pytest.approx(1e4)


def test_confusions_are_counted_by_pair_the_most_frequent_first():
    labels = np.array([0, 0, 0, 1, 2, 2])
    logits = np.eye(3)[[1, 1, 0, 1, 0, 2]]
    found = judged(labels, 3, logits)
    assert [tuple(pair) for pair in found.confusions(5)] == [(0, 1, 2), (2, 0, 1)]
    assert found.by_class() == [(1, 3), (1, 1), (1, 2)]
    assert found.matrix.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]


def test_outputs_beyond_the_classes_are_no_classes():
    logits = np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]])
    found = judged(np.array([1, 0]), 2, logits)
    assert found.classes == 2
    assert found.correct.all()


@pytest.mark.parametrize("logits", [np.full((2, 2), np.nan), np.zeros(2), np.zeros((3, 2))])
def test_predictions_that_cannot_be_used_give_nothing(logits):
    assert judged(np.array([0, 1]), 2, logits) is None


def test_rows_are_judged_alike_in_blocks(monkeypatch):
    labels = np.arange(60) % 3
    whole = judged(labels, 3)
    monkeypatch.setattr(scores, "BLOCK", 7)
    parts = judged(labels, 3)
    np.testing.assert_array_equal(whole.predicted, parts.predicted)
    np.testing.assert_array_equal(whole.losses, parts.losses)


def test_chance_explains_the_error_of_exact_confidences():
    """Labels drawn from the predicted probabilities: the error is what so few examples show by chance, which many do not."""
    generator = np.random.default_rng(3)
    few, many = [], []
    for n, kept in ((60, few), (6000, many)):
        for _ in range(20):
            logits = generator.normal(size=(n, 2))
            odds = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
            found = judged((generator.random(n) < odds).astype(np.int64), 2, logits)
            kept.append((expected_error(found.bins()), found.chance_error()))
    for kept in (few, many):
        errors, chances = np.array(kept).T
        assert errors.mean() == pytest.approx(chances.mean(), rel=0.25)
    assert np.mean(many) < 0.3 * np.mean(few)
