"""How the worth of rule votes is measured."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.rule_votes import Questions, judged, label_models, revised


@pytest.fixture
def questions() -> Questions:
    """Three classes; a rule that mostly says 0, whatever it sees, and one for each class that is right and seldom speaks."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 900)
    votes = np.where(rng.random((900, 4)) < 0.15, true[:, None], -1)
    votes[:, 0] = np.where(rng.random(900) < 0.8, 0, -1)
    features = 1.5 * np.eye(3)[true] + rng.normal(size=(900, 3))
    return Questions(features, votes, true, np.repeat(["train", "val", "test"], [500, 150, 250]), 3)


def test_what_is_right_is_counted_among_those_that_have_a_label(questions: Questions) -> None:
    rows = questions.rows("train")
    made = np.where(np.arange(500) < 100, -1, questions.true[rows])
    count, right, accuracy = judged(questions, rows, made)
    assert (count, right) == (400, 1.0)
    assert accuracy > 0.7
    assert judged(questions, rows, np.zeros(500, dtype=np.int64))[2] == pytest.approx((questions.true[650:] == 0).mean())


def test_the_truth_is_worth_most_and_votes_that_are_weighed_more_than_the_majority(questions: Questions) -> None:
    found = dict(label_models(questions))
    assert max(found, key=lambda name: found[name][2]) == "the truth"
    assert found["votes weighed by accuracy on val"][1] > found["majority, ties to the lowest class"][1]


def test_known_rows_mend_labels(questions: Questions) -> None:
    _, features, right, accuracy = revised(questions, 60, seed=0)
    majority = dict(label_models(questions))["majority, ties give no label"]
    assert right > max(majority[1], features - 0.01)
    assert accuracy > majority[2]
