"""Labels on real votes, rules and human mistakes: figures that are right to about a point, from the datasets of ``HOLDFAST_DATA``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import datasets

from holdfast import labels

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def trec(data_dir):
    """Questions by split: texts, true classes, and the votes of 68 rules."""
    rows = [json.loads(line) for line in (data_dir / "trec.jsonl").read_text().splitlines()]
    classes = sorted({row["label"] for row in rows})
    place = {name: number for number, name in enumerate(classes)}
    rules = [str(rule["id"]) for rule in json.loads((data_dir / "trec_rules.json").read_text())]
    votes = np.array([[place[row["votes"][rule]] if rule in row["votes"] else -1 for rule in rules] for row in rows])
    true, split = np.array([place[row["label"]] for row in rows]), np.array([row["split"] for row in rows])
    return {name: ([row["text"] for row in rows if row["split"] == name], true[split == name], votes[split == name]) for name in set(split)}


@pytest.fixture(scope="module")
def amcl(data_dir):
    with np.load(data_dir / "amcl_example_votes.npz") as stored:
        return {name: stored[name].astype(np.int64) for name in stored.files}


@pytest.fixture(scope="module")
def human(data_dir):
    """The transition matrices of human labels of CIFAR-10."""
    with np.load(data_dir / "cifar10n_labels.npz") as stored:
        true = stored["clean_label"].astype(np.int64)
        return {
            name: labels.empirical_transition(true, stored[name].astype(np.int64), 10) for name in stored.files if name != "clean_label"
        }


def test_majority_of_the_rules_of_trec(trec):
    _, true, votes = trec["train"]
    voted = (votes >= 0).any(axis=1)
    assert voted.mean() == pytest.approx(0.951, abs=0.001)
    lowest = labels.majority_vote(votes, 6, ties="lowest")
    assert (lowest == true)[voted].mean() == pytest.approx(0.490, abs=0.005)
    resolved = labels.majority_vote(votes, 6)
    assert (resolved >= 0).mean() == pytest.approx(0.811, abs=0.001)
    assert (resolved == true)[resolved >= 0].mean() == pytest.approx(0.566, abs=0.001)


def test_rules_from_their_file_give_the_stored_votes(trec, data_dir):
    texts, _, votes = trec["valid"]
    rules = labels.read_rules(str(data_dir / "trec_rules.json"))
    classes = ("abbreviation", "description", "entity", "human", "location", "numeric")
    assert np.array_equal(labels.apply_rules(rules, texts, classes, where=str), votes)


def test_weights_from_val_beat_the_majority_and_dawid_skene_fails_on_rules_as_it_warns(trec, caplog):
    _, true, votes = trec["train"]
    _, known, judged = trec["valid"]
    voted = (votes >= 0).any(axis=1)

    def accuracy(probs):
        return (probs.argmax(axis=1) == true)[voted].mean()

    majority = accuracy(labels.majority_probabilities(votes, 6))
    weighted = accuracy(labels.majority_probabilities(votes, 6, weights=labels.accuracy_weights(judged, known, 6)))
    adversarial = accuracy(labels.adversarial_labels(votes, 6, labels.accuracy_bounds(judged, known, 6)).probs)
    ignoring = accuracy(labels.dawid_skene(votes, 6).probs)
    assert "only ever vote for one class" in caplog.text
    assert weighted > majority + 0.05
    assert adversarial > majority + 0.04
    assert ignoring < majority - 0.2


def test_label_models_on_the_published_example_of_adversarial_labelling(amcl):
    votes, true = amcl["unlabeled_votes"], amcl["unlabeled_true"]
    majority = (labels.majority_vote(votes, 5, ties="random") == true).mean()
    bounds = labels.accuracy_bounds(amcl["labeled_votes"], amcl["labeled_true"], 5)
    found = labels.adversarial_labels(votes, 5, bounds)
    assert (found.probs.argmax(axis=1) == true).mean() > majority + 0.01
    assert (labels.dawid_skene(votes, 5).probs.argmax(axis=1) == true).mean() > majority + 0.02
    accuracies = (votes == true[:, None]).mean(axis=0)
    inside = (bounds[:, 0] <= accuracies) & (accuracies <= bounds[:, 1])
    if inside.all():  # the promise holds where its premise does
        assert -np.log(found.probs[np.arange(len(true)), true]).mean() <= found.risk


@pytest.mark.parametrize("name", ["aggre_label", "random_label1", "worse_label"])
def test_estimators_on_human_matrices(human, name):
    """Digits whose labels are wrong as people were about CIFAR-10; half of the error of taking the labels as right is gone."""
    pixels, true = datasets.load_digits(return_X_y=True)
    observed = labels.inject_from_matrix(true, human[name], seed=0).labels
    probs = labels.cross_validated_probabilities(pixels, observed, 10)
    found = labels.estimate_transition(probs, observed)
    assert found.estimator == "confident-joint"
    drawn = labels.empirical_transition(true, observed, 10)
    assert np.abs(found.transition - drawn).sum() < 0.6 * np.abs(np.eye(10) - drawn).sum()
