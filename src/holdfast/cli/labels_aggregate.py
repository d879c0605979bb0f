"""``holdfast labels aggregate``: one label from the votes of annotators or rules, and a report on those who voted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.cli.arguments import COMMON, Argument, Parsed
from holdfast.cli.help import HelpPage
from holdfast.cli.labels_options import (
    CLASSES,
    DATA,
    KNOWN,
    VOTERS,
    check_table_name,
    choice,
    known_labels,
    names,
    number,
    read_arguments,
    whole,
)
from holdfast.cli.labels_tables import print_lines, print_table
from holdfast.errors import ConfigError, DataError
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.labels import Rule, VoteStatistics
    from holdfast.labels.arrays import FloatArray, IntArray
    from holdfast.labels.examples import Examples
    from holdfast.labels.voters import Voted

__all__ = ["page", "run"]

METHODS = ("majority", "weighted", "dawid-skene", "adversarial")
TIES = ("abstain", "lowest", "random", "prior")
VOTES = (
    Argument("--rules", "file of labeling functions: Python functions (.py), or regular expressions and keywords (.json)", "FILE"),
    VOTERS,
    CLASSES,
)
HOW = (
    Argument("--method", "how votes become labels; weighted and adversarial need rows whose truth is known", "NAME", "majority", METHODS),
    Argument("--ties", "a tie gives no label, the lowest class, one drawn by --seed, or the more frequent class", "RULE", "abstain", TIES),
    KNOWN,
    Argument("--known-split", "split whose labels are true, such as val, instead of --known", "SPLIT"),
    Argument("--smoothing", "dawid-skene: pseudo-votes for each entry of a voter's matrix", "NUMBER", "0.01"),
    Argument("--abstain", "dawid-skene: ignore abstentions, or model them, as rules need it", "HOW", "ignore", ("ignore", "model")),
    Argument("--one-coin", "dawid-skene: describe a voter by its accuracy alone"),
    Argument("--confidence", "adversarial: of the intervals of the voters' accuracies", "NUMBER", "0.9"),
    Argument("--seed", "seed of --ties random", "N", "0"),
)
OUTPUT = (
    Argument("--out", "table to write, which ends in .csv or .jsonl; without it only the report is printed", "FILE"),
    Argument("--matrix-out", "file for the estimated transition matrix of the new labels (.json, .csv, .npy, .npz)", "FILE"),
    Argument("--keep-unlabelled", "write rows that get no label too, with an empty label"),
)
ARGUMENTS = (*VOTES, *HOW, *OUTPUT, *COMMON)
MOST_VOTERS = 40


def page() -> HelpPage:
    """The page behind ``holdfast labels aggregate --help``."""
    return HelpPage(
        usage=("holdfast labels aggregate DATA [--rules FILE | --voters A,B,...] --method NAME --out FILE",),
        about=(
            "Make one label of many votes. They come from a column 'votes' with an object such as {\"ann\": \"spam\"} in each row, from a "
            "column for each annotator, or from rules that are run on the texts. Where DATA has labels and splits, rows of train get the "
            "new label, and labels of val and test are taken as true and stay; the old ones go into the column 'true_label'.",
            "The report says of each voter how much it covers, how often it meets and contradicts others, and, where the truth is known, "
            "how often it is right.",
        ),
        words=(DATA,),
        groups={"Votes": VOTES, "How": HOW, "Output": (*OUTPUT, *COMMON)},
        examples=(
            ("three annotators", "holdfast labels aggregate comments.csv --voters ann,bob,cem --method dawid-skene --out labelled.csv"),
            ("rules, weighed by what is known on val", "holdfast labels aggregate questions.jsonl --rules rules.json --method weighted "
             "--known-split val --out labelled.jsonl"),
        ),
        closing=(
            "A rules file in Python holds functions of one text that return the name of a class, or None. In JSON it is a list such as "
            '[{"label": "spam", "keywords": ["subscribe"]}, {"label": "ham", "pattern": "^thank"}].'
        ),
    )  # fmt: skip


def run(argv: Sequence[str]) -> int:
    """Collect votes, report on them, combine them, write."""
    data, parsed = read_arguments(argv, ARGUMENTS, "aggregate")
    method = _check(parsed)
    from holdfast.labels import vote_statistics
    from holdfast.labels.examples import read_examples

    examples = read_examples(data, need_labels=False)
    voted = _votes(parsed, examples)
    labels = examples.indices(examples.labels, voted.classes, "the label")
    target = _target(examples, labels)
    known = _known(parsed, examples, labels, voted)
    statistics = vote_statistics(voted.votes[target], len(voted.classes), true_labels=labels[target] if (labels >= 0).any() else None)
    _print_voters(voted, statistics, int(target.sum()))
    probs = _combined(parsed, method, voted, known)
    hard = _hard(parsed, method, voted, probs)
    _print_result(method, hard[target], labels[target], voted)
    if parsed.values.get("matrix_out"):
        _write_matrix(parsed.values["matrix_out"], probs, hard, known, target, voted)
    if parsed.values.get("out"):
        _write(parsed, examples, voted, probs, hard, target)
    return 0


def _check(parsed: Parsed) -> str:
    method = choice(parsed, "method", "majority", METHODS)
    choice(parsed, "ties", "abstain", TIES)
    choice(parsed, "abstain", "ignore", ("ignore", "model"))
    if "rules" in parsed.values and "voters" in parsed.values:
        raise ConfigError("--rules and --voters: votes come from one of them; leave the other out.")
    if "known" in parsed.values and "known_split" in parsed.values:
        raise ConfigError("--known and --known-split: what is true comes from one of them; leave the other out.")
    if method in ("weighted", "adversarial") and not {"known", "known_split"} & parsed.values.keys():
        raise ConfigError(f"--method {method}: needs rows whose truth is known; add --known-split val, or --known with a column.")
    if parsed.values.get("out"):
        check_table_name(parsed.values["out"], "")
    return method


def _votes(parsed: Parsed, examples: Examples) -> Voted:
    from holdfast.labels.voters import votes_of_columns, votes_of_rules, votes_of_votes

    classes, columns = names(parsed, "classes"), names(parsed, "voters")
    if "rules" in parsed.values:
        return votes_of_rules(examples, _rules(parsed.values["rules"]), classes)
    return votes_of_votes(examples, classes) if columns is None else votes_of_columns(examples, columns, classes)


def _rules(file: str) -> list[Rule]:
    from holdfast.config.plugins import load_plugin
    from holdfast.labels.rules import read_rules, rules_of_module

    if file.lower().endswith(".json"):
        return read_rules(file)
    if not file.lower().endswith(".py"):
        raise ConfigError(f"--rules {file}: expected a file name that ends in .py or .json.")
    return rules_of_module(load_plugin(file, "--rules"), file)


def _target(examples: Examples, labels: IntArray) -> Any:
    """Rows (N,) that get a new label: train, where labels and splits are given, else all."""
    return examples.in_split("train" if (labels >= 0).any() else "all")


def _known(parsed: Parsed, examples: Examples, labels: IntArray, voted: Voted) -> IntArray:
    """True classes (N,) that may be used, -1 elsewhere."""
    known = np.full(len(examples), -1, dtype=np.int64)
    if "known" in parsed.values:
        known = known_labels(examples, parsed.values["known"], voted.classes)
    elif "known_split" in parsed.values:
        split = {"valid": "val", "validation": "val"}.get(parsed.values["known_split"], parsed.values["known_split"])
        if examples.splits is None:
            raise DataError(f"--known-split {split}: {examples.spec} has no column 'split'.")
        if split == "test":
            raise ConfigError("--known-split test: the test split is for the test; use val, or a part of train in a column for --known.")
        rows = np.flatnonzero(examples.in_split(split))
        known[rows] = labels[rows]
    if {"known", "known_split"} & parsed.values.keys() and not (known >= 0).any():
        raise DataError(f"{examples.spec}: no row has a known class there; check --known or --known-split.")
    return known


def _combined(parsed: Parsed, method: str, voted: Voted, known: IntArray) -> FloatArray:
    """Probabilities (N, K) of each class."""
    from holdfast import labels

    votes, size = voted.votes, len(voted.classes)
    judged = known >= 0
    if method == "majority":
        return labels.majority_probabilities(votes, size)
    if method == "weighted":
        return labels.majority_probabilities(votes, size, weights=labels.accuracy_weights(votes[judged], known[judged], size))
    if method == "dawid-skene":
        smoothing = number(parsed, "smoothing", 0.01, low=0)
        options = {"abstain": str(parsed.values.get("abstain", "ignore")), "one_coin": "one_coin" in parsed.values}
        return labels.dawid_skene(votes, size, smoothing=smoothing, known=known if judged.any() else None, **options).probs  # type: ignore[arg-type]
    confidence = number(parsed, "confidence", 0.9, low=0, high=1)
    bounds = labels.accuracy_bounds(votes[judged], known[judged], size, confidence=confidence)
    solved = labels.adversarial_labels(votes, size, bounds)
    print_lines(
        [f"Adversarial: whatever the truth within these bounds, the mean log loss of the probabilities is at most {solved.risk:.3f} nats."]
    )
    return solved.probs


def _hard(parsed: Parsed, method: str, voted: Voted, probs: FloatArray) -> IntArray:
    from holdfast.labels import hard_labels, vote_counts

    silent = voted.votes.max(axis=1) < 0
    scores = vote_counts(voted.votes, len(voted.classes)) if method == "majority" else np.where(silent[:, None], 0.0, probs)
    return hard_labels(scores, ties=str(parsed.values.get("ties", "abstain")), seed=whole(parsed, "seed", 0))


# --------------------------------------------------------------------------------------------------------------- what is said


def _print_voters(voted: Voted, statistics: VoteStatistics, rows: int) -> None:
    print_lines([f"{len(voted.voters)} voters on {rows} rows, {len(voted.classes)} classes."])
    judged = statistics.judged.any()
    order = np.argsort(-statistics.coverage, kind="stable")
    table = [
        [
            voted.voters[number],
            _classes_of(voted, statistics.polarity[number]),
            *(percent(float(share[number])) for share in (statistics.coverage, statistics.overlap, statistics.conflict)),
            *([percent(_or_none(statistics.accuracy[number]))] if judged else []),
        ]
        for number in order[:MOST_VOTERS].tolist()
    ]
    print_table(("voter", "votes for", "coverage", "overlap", "conflict", *(["right"] if judged else [])), table, left=2)
    if len(order) > MOST_VOTERS:
        print_lines([f"and {len(order) - MOST_VOTERS} more that cover less"])


def _classes_of(voted: Voted, polarity: Sequence[int]) -> str:
    said = [voted.classes[label] for label in polarity]
    return ", ".join(said) if len(said) <= 3 else f"{len(said)} classes"


def _or_none(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _print_result(method: str, hard: IntArray, true: IntArray, voted: Voted) -> None:
    labelled = hard >= 0
    lines = [f"{method}: {labelled.sum()} of {len(hard)} rows get a label ({percent(float(labelled.mean()))})."]
    judged = labelled & (true >= 0)
    if judged.any():
        lines.append(
            f"Of the labels whose truth is known, {percent(float((hard == true)[judged].mean()))} are right ({judged.sum()} rows)."
        )
    print_lines(lines)


# ----------------------------------------------------------------------------------------------------------------- what is written


def _write_matrix(file: str, probs: FloatArray, hard: IntArray, known: IntArray, target: Any, voted: Voted) -> None:
    from holdfast.labels import from_clean_set, from_posterior
    from holdfast.labels.transition import MAX_RHO, rho, write_transition

    judged = (known >= 0) & (hard >= 0)
    if judged.any():
        matrix = from_clean_set(known[judged], hard[judged], len(voted.classes))
        how = f"{judged.sum()} rows whose truth is known"
    else:
        matrix = from_posterior(probs[target], hard[target])
        how = "the probabilities of the label model itself, which are too sure where votes depend on each other"
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_transition(file, matrix, classes=voted.classes)
    factor = rho(matrix)
    verdict = f", above {MAX_RHO:g}, so a correction with it is refused" if factor > MAX_RHO else ""
    print_lines([f"Transition matrix of the new labels: {file}, from {how}; rho {factor:.2f}{verdict}."])


def _write(parsed: Parsed, examples: Examples, voted: Voted, probs: FloatArray, hard: IntArray, target: Any) -> None:
    from holdfast.labels.examples import write_examples

    file = parsed.values["out"]
    new = [
        (voted.classes[label] if label >= 0 else "") if chosen else old
        for label, chosen, old in zip(hard.tolist(), target.tolist(), examples.labels, strict=True)
    ]
    columns: dict[str, Sequence[str]] = {"label": new}
    if any(examples.labels):
        columns["true_label"] = examples.columns.get("true_label", examples.labels)
    columns["label_confidence"] = [f"{value:.4f}" if chosen else "" for value, chosen in zip(probs.max(axis=1), target, strict=True)]
    rows = [row for row, label in enumerate(new) if label or "keep_unlabelled" in parsed.values]
    write_examples(file, examples, columns, rows=rows)
    left_out = len(examples) - len(rows)
    note = f"; {left_out} rows without a label are left out" if left_out else ""
    print_lines(
        [f"Written: {Path(file)} with {len(rows)} rows{note}", f"Next: holdfast labels estimate {shlex.quote(file)}, or holdfast fit"]
    )
