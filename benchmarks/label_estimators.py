"""How well is the transition matrix estimated? ``python -m benchmarks.label_estimators --data DEST``.

Each estimator's total absolute error, the sum of |F estimated - F|, three seeds:

- on synthetic probabilities with a known F: those of a model that is calibrated to the noisy labels, of one that is overconfident, and of
  one that has learned the labels by heart;
- on the demo digits, labelled by the human matrices of CIFAR-10N, by the judge of ``labels estimate``;

and how many labels are right after the three annotators of CIFAR-10N, or the rules of TREC, have voted. ``DEST`` holds
``cifar10n_labels.npz`` and ``trec.jsonl``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from benchmarks.noisy_cells import SEEDS
from benchmarks.noisy_summary import spread
from holdfast import labels
from holdfast.labels.arrays import FloatArray, IntArray
from holdfast.labels.examples import read_examples
from holdfast.labels.features import example_features
from holdfast.labels.transition import pair, symmetric
from holdfast.labels.voters import votes_of_votes

CLASSES = 10
EXAMPLES = 5000
SEPARATION = 3.0
"""Distance of each class mean from 0 in units of the noise of the features: the best classifier is right in nine of ten."""

SHARPENED = 5
BY_HEART = 0.9
KNOWN_ROWS = (50, 200)
HUMAN = ("aggre_label", "random_label1", "worse_label")


class Judged(NamedTuple):
    """True and observed classes (N,), and noisy-class probabilities (N, K)."""

    true: IntArray
    observed: IntArray
    probs: FloatArray


def synthetic(transition: FloatArray, seed: int) -> Judged:
    """Examples around a mean for each class, and the exact probabilities of their noisy classes."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, CLASSES, EXAMPLES)
    features = SEPARATION * np.eye(CLASSES)[true] + rng.standard_normal((EXAMPLES, CLASSES))
    observed = labels.inject_from_matrix(true, transition, seed=rng).labels
    return Judged(true, observed, softmax(SEPARATION * features, axis=1) @ transition)


def overconfident(judged: Judged) -> Judged:
    """The same order of the classes, and far too sure of the first."""
    raised = judged.probs**SHARPENED
    return judged._replace(probs=raised / raised.sum(axis=1, keepdims=True))


def by_heart(judged: Judged) -> Judged:
    """Sure of the label as given, right or wrong."""
    return judged._replace(probs=BY_HEART * np.eye(CLASSES)[judged.observed] + (1 - BY_HEART) * judged.probs)


TABLES: dict[str, Callable[[Judged], Judged]] = {
    "calibrated": lambda judged: judged,
    "overconfident": overconfident,
    "by heart": by_heart,
}
"""How the probabilities are, by name in the table."""


def errors(judged: Judged, right: FloatArray, seed: int) -> dict[str, float]:
    """Total absolute error of each estimator, and what tells when to trust which."""
    found = labels.estimate_transition(judged.probs, judged.observed)
    assert found.others is not None
    estimates = {"none": np.eye(CLASSES), **found.others, found.estimator: found.transition, "auto": found.transition}
    rows = np.random.default_rng(seed).permutation(len(judged.true))
    for number in KNOWN_ROWS:
        chosen = rows[:number]
        estimates[f"{number} known"] = labels.from_clean_set(judged.true[chosen], judged.observed[chosen], CLASSES)
    measured = {name: float(np.abs(estimate - right).sum()) for name, estimate in estimates.items()}
    counted_twice = float(np.abs(estimates["dual-t"] - right @ right).sum())
    diagnosis = {"ece": found.ece, "overconfidence": found.overconfidence, "anchor distance": found.anchor_distance}
    known = {name: value for name, value in diagnosis.items() if value is not None}
    return {**measured, "to F F": counted_twice, **known, "takes dual-t": float(found.estimator == "dual-t")}


COLUMNS = {
    "none": "no noise",
    "anchors": "anchors",
    "dual-t": "Dual-T",
    "to F F": "Dual-T from F F",
    "confident-joint": "confident joint",
    "50 known": "50 known rows",
    "200 known": "200 known rows",
    "auto": "`auto`",
    "takes dual-t": "`auto` takes Dual-T",
    "ece": "ECE",
    "overconfidence": "confidence less accuracy",
    "anchor distance": "‖T_club - I‖",
}
"""Numbers by their head in the tables."""


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """Lines of a Markdown table: mean and standard deviation over seeds of each row."""
    lines = [f"| labels | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, seeds in rows.items():
        lines.append(f"| {name} | {' | '.join(_cell(column, [seed[column] for seed in seeds]) for column in COLUMNS)} |")
    return lines


def _cell(column: str, values: Sequence[float]) -> str:
    return f"{sum(values):.0f} of {len(values)}" if column == "takes dual-t" else spread(values, 2)


def human_matrices(data: Path) -> dict[str, FloatArray]:
    """F of some labels of CIFAR-10N."""
    with np.load(data / "cifar10n_labels.npz") as file:
        true = file["clean_label"].astype(np.int64)
        return {name: labels.empirical_transition(true, file[name].astype(np.int64), CLASSES) for name in HUMAN}


def of_synthetic(matrices: Mapping[str, FloatArray]) -> dict[str, list[dict[str, float]]]:
    """A row for each matrix and kind of probabilities."""
    return {
        f"{name}, {kind}": [errors(change(synthetic(matrix, seed)), matrix, seed) for seed in SEEDS]
        for name, matrix in matrices.items()
        for kind, change in TABLES.items()
    }


def of_digits(matrices: Mapping[str, FloatArray]) -> dict[str, list[dict[str, float]]]:
    """A row for each matrix: the error from what was drawn."""
    examples = read_examples("demo:digits")
    features = example_features(examples, range(len(examples)), model="demo:glyphnet")
    true = examples.indices(examples.labels, examples.classes, "the label")

    def one(matrix: FloatArray, seed: int) -> dict[str, float]:
        observed = labels.inject_from_matrix(true, matrix, seed=seed).labels
        probs = labels.cross_validated_probabilities(features, observed, CLASSES, seed=seed)
        return errors(Judged(true, observed, probs), labels.empirical_transition(true, observed, CLASSES), seed)

    return {name: [one(matrix, seed) for seed in SEEDS] for name, matrix in matrices.items()}


def votes(data: Path) -> list[str]:
    """Lines on what voting makes of several labels."""
    with np.load(data / "cifar10n_labels.npz") as file:
        true = file["clean_label"].astype(np.int64)
        given = np.stack([file[f"random_label{number}"] for number in (1, 2, 3)], axis=1).astype(np.int64)
    one = [100 * float((given[:, voter] == true).mean()) for voter in range(3)]
    majority = 100 * float((labels.majority_vote(given, CLASSES, ties="random") == true).mean())
    model = labels.dawid_skene(given, CLASSES)
    merged = 100 * float((model.probs.argmax(axis=1) == true).mean())
    right = labels.empirical_transition(true, given[:, 0], CLASSES)
    error = float(np.abs(labels.from_posterior(model.probs, given[:, 0]) - right).sum())
    blind = float(np.abs(np.eye(CLASSES) - right).sum())
    lines = [
        f"CIFAR-10N, three annotators: {one[0]:.1f}, {one[1]:.1f} and {one[2]:.1f} % right; majority, ties at random, {majority:.1f} %; "
        f"Dawid-Skene {merged:.1f} %.",
        f"F of the first annotator by what Dawid-Skene takes for true: total absolute error {error:.2f}; no noise assumed: {blind:.2f}.",
    ]
    questions = read_examples(str(data / "trec.jsonl"))
    voted = votes_of_votes(questions, questions.classes)
    train = questions.in_split("train")
    truth = questions.indices(questions.labels, voted.classes, "the label")[train]
    chosen = labels.majority_vote(voted.votes[train], len(voted.classes))
    has = chosen >= 0
    return [
        *lines,
        f"TREC, {voted.votes.shape[1]} rules: {100 * float(has.mean()):.1f} % of {len(has)} questions have a majority, which is right in "
        f"{100 * float((chosen == truth)[has].mean()):.1f} %.",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10n_labels.npz and trec.jsonl")
    data: Path = parser.parse_args(argv).data
    logging.getLogger("holdfast").setLevel(logging.ERROR)  # a class that is never predicted is named in each of many tables otherwise
    human = {f"CIFAR-10N {name}": matrix for name, matrix in human_matrices(data).items()}
    known = {"symmetric 40 %": symmetric(CLASSES, 0.4), "pair 40 %": pair(CLASSES, 0.4), **human}
    right = [100 * float((judged.probs.argmax(axis=1) == judged.true).mean()) for judged in (synthetic(np.eye(CLASSES), s) for s in SEEDS)]
    print(f"Synthetic: {EXAMPLES} examples, {CLASSES} classes; the best classifier is right in {spread(right)} %.\n")
    print("\n".join(table(of_synthetic(known))))
    print("\nDigits, judged by cross-validation on frozen features:\n")
    print("\n".join(table(of_digits(human))))
    print("", *votes(data), sep="\n")


if __name__ == "__main__":
    main()
