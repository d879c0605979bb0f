"""What rule votes on TREC are worth: labels made of them in several ways, and a linear classifier on frozen features that learns from each.

``python -m benchmarks.rule_votes --data trec.jsonl --model hf:FOLDER``: about a minute, most of it for the features. Known rows are those
of val.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from holdfast import labels
from holdfast.labels.arrays import FloatArray, IntArray
from holdfast.labels.examples import read_examples
from holdfast.labels.features import example_features
from holdfast.labels.voters import votes_of_votes

KNOWN = (50, 100, 200, 500)
DRAWS = 3
"""Random choices of known rows, where they are not all."""

STRENGTH = 0.01


@dataclass(frozen=True)
class Questions:
    """Features (N, D), votes (N, M), truth (N,) and splits (N,)."""

    features: FloatArray
    votes: IntArray
    true: IntArray
    splits: Any
    classes: int

    def rows(self, split: str) -> IntArray:
        """Those of a split."""
        return np.flatnonzero(self.splits == split)


def read(data: str, model: str) -> Questions:
    """Texts as features, votes and truth as numbers."""
    examples = read_examples(data)
    voted = votes_of_votes(examples, None)
    features = example_features(examples, list(range(len(examples))), model=model)
    true = examples.indices(examples.labels, voted.classes, "the label")
    assert examples.splits is not None
    return Questions(features, voted.votes, true, np.array(examples.splits), len(voted.classes))


def judged(questions: Questions, rows: IntArray, made: IntArray, weights: FloatArray | None = None) -> tuple[int, float, float]:
    """How many labels there are, the share that is right, and test accuracy of a linear classifier that learned from them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows, made, weights = rows[made >= 0], made[made >= 0], None if weights is None else weights[made >= 0]
    right = float((made == questions.true[rows]).mean())
    if len(np.unique(made)) < 2:
        return len(rows), right, float((questions.true[questions.rows("test")] == made[0]).mean())
    scaler = StandardScaler().fit(questions.features[questions.rows("train")])
    fitted = LogisticRegression(C=STRENGTH, max_iter=500).fit(scaler.transform(questions.features[rows]), made, sample_weight=weights)
    test = questions.rows("test")
    return len(rows), right, float(fitted.score(scaler.transform(questions.features[test]), questions.true[test]))


def label_models(questions: Questions) -> Iterator[tuple[str, tuple[int, float, float]]]:
    """Labels from votes, with and without val."""
    train, val, k = questions.rows("train"), questions.rows("val"), questions.classes
    votes = questions.votes[train]
    silent = votes.max(axis=1) < 0

    def hard(probs: FloatArray, ties: str = "abstain") -> IntArray:
        return labels.hard_labels(np.where(silent[:, None], 0.0, probs), ties=ties)

    yield "majority, ties give no label", judged(questions, train, labels.majority_vote(votes, k))
    yield "majority, ties to the lowest class", judged(questions, train, labels.majority_vote(votes, k, ties="lowest"))
    coverage = (votes >= 0).mean(axis=0)
    rare = labels.majority_probabilities(votes, k, weights=1 / (coverage + 1e-3))
    yield "votes weighed by 1 / coverage", judged(questions, train, hard(rare))
    weights = labels.accuracy_weights(questions.votes[val], questions.true[val], k)
    yield "votes weighed by accuracy on val", judged(questions, train, hard(labels.majority_probabilities(votes, k, weights=weights)))
    both = np.concatenate([train, val])
    known = np.where(questions.splits[both] == "val", questions.true[both], -1)
    for abstain in ("ignore", "model"):
        found = labels.dawid_skene(votes, k, smoothing=0.01, abstain=abstain).probs
        yield f"Dawid-Skene, abstentions: {abstain}", judged(questions, train, hard(found))
        helped = labels.dawid_skene(questions.votes[both], k, smoothing=0.01, abstain=abstain, known=known).probs[: len(train)]
        yield f"Dawid-Skene with val, abstentions: {abstain}", judged(questions, train, hard(helped))
    yield "the truth", judged(questions, train, questions.true[train])


def revised(questions: Questions, size: int, seed: int) -> tuple[float, float, float, float]:
    """With some known rows: test accuracy by these alone; labels right by features alone, and revised; test accuracy by revised labels."""
    train, k = questions.rows("train"), questions.classes
    majority = labels.majority_vote(questions.votes[train], k)
    rows, given = train[majority >= 0], majority[majority >= 0]
    chosen, test = _drawn(questions, size, seed), questions.rows("test")
    everything = np.concatenate([rows, chosen, test])
    known = np.full(len(everything), -1)
    known[len(rows) : len(rows) + size] = questions.true[chosen]
    probs = labels.judged_by_known(questions.features[everything], known, k)
    posterior = labels.posterior_of_truth(probs[: len(rows)], given, labels.likeliest_transition(probs[: len(rows)], given))
    alone = float((probs[-len(test) :].argmax(axis=1) == questions.true[test]).mean())
    features = float((probs[: len(rows)].argmax(axis=1) == questions.true[rows]).mean())
    _, right, accuracy = judged(questions, rows, posterior.argmax(axis=1), posterior.max(axis=1))
    return alone, features, right, accuracy


def _drawn(questions: Questions, size: int, seed: int) -> IntArray:
    """Rows of val, some of each class."""
    rng, val = np.random.default_rng(seed), questions.rows("val")
    while True:
        chosen = rng.permutation(val)[:size]
        if len(np.unique(questions.true[chosen])) == questions.classes:
            return chosen


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="table with the columns text, label, split and votes")
    parser.add_argument("--model", required=True, help="network whose features are taken, such as hf:FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("holdfast").setLevel(logging.ERROR)  # Dawid and Skene's model warns of what is shown here
    questions = read(options.data, options.model)
    print("| labels of train | how many | right | test accuracy |\n|---|---|---|---|")
    for name, (count, right, accuracy) in label_models(questions):
        print(f"| {name} | {count} | {100 * right:.1f} % | {100 * accuracy:.1f} % |")
    heads = ("known rows", "test, known rows alone", "labels right by features", "labels right, revised", "test, revised labels")
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for size in KNOWN:
        draws = DRAWS if size < len(questions.rows("val")) else 1
        mean = 100 * np.mean([revised(questions, size, seed) for seed in range(draws)], axis=0)
        print(f"| {size} | " + " | ".join(f"{value:.1f} %" for value in mean) + " |")


if __name__ == "__main__":
    main()
