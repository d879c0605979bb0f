"""``holdfast labels estimate``: the transition matrix of wrong labels, how sure it is, and whether a correction can work with it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.cli.arguments import COMMON, Argument, Parsed
from holdfast.cli.help import HelpPage
from holdfast.cli.labels_options import (
    CLASSES,
    DATA,
    JUDGE,
    KNOWN,
    SPLIT,
    VOTERS,
    choice,
    judged,
    known_labels,
    names,
    number,
    read_arguments,
    whole,
)
from holdfast.cli.labels_tables import print_confusions, print_lines, print_table
from holdfast.errors import ConfigError, DataError
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.labels import Estimate
    from holdfast.labels.arrays import FloatArray, IntArray
    from holdfast.labels.examples import Examples

__all__ = ["page", "run"]

log = logging.getLogger("holdfast")

ESTIMATORS = ("auto", "anchors", "dual-t", "confident-joint", "clean", "annotators")
HOW = (
    Argument("--estimator", "how: by a classifier's probabilities (the first four), by known rows, by votes", "NAME", "auto", ESTIMATORS),
    Argument("--percentile", "anchors and dual-t: examples at or above it are outliers; none for no limit", "NUMBER", "97"),
    Argument("--top-m", "anchors and dual-t: average over this many best examples", "N", "1"),
    KNOWN,
    VOTERS,
    Argument("--smoothing", "clean: pseudo-examples for each class; annotators: pseudo-votes for each entry", "NUMBER", "1; 0.01"),
    Argument("--shrink", "draw the result towards the identity, from 0 to 1", "NUMBER", "0"),
    Argument("--bootstrap", "resamples for the 95 % intervals; 0 for none", "N", "200"),
    Argument("--seed", "seed of the resamples", "N", "0"),
)
OUTPUT = (
    Argument("--out", "file for the matrix (.json with everything, .csv, .npy, .npz), as 'holdfast fit' takes it", "FILE"),
    Argument("--force", "write it even if a correction cannot work with it"),
)
ARGUMENTS = (*HOW, SPLIT, *JUDGE, CLASSES, *OUTPUT, *COMMON)


def page() -> HelpPage:
    """The page behind ``holdfast labels estimate --help``."""
    return HelpPage(
        usage=("holdfast labels estimate DATA [--model MODEL] [--out FILE]",),
        about=(
            "Estimate how often each class is labelled as each other. By default a classifier on features of a frozen network gives "
            "probabilities, out of sample, in seconds; texts do without a network, by the words in them. All estimators are computed, one "
            "is recommended and the reason is told. Rows whose true class is known (--known) "
            "help where there are few classes, or where the noise can be predicted from the input.",
            "rho says by how much a corrected loss is noisier; above 20 a correction is refused.",
        ),
        words=(DATA,),
        groups={"How": HOW, "Rows and classes": (SPLIT, CLASSES), "Network": JUDGE, "Output": (*OUTPUT, *COMMON)},
        examples=(
            ("from images alone", "holdfast labels estimate cars.csv --model timm:resnet18 --out F.json"),
            ("from rows that somebody checked", "holdfast labels estimate cars.csv --estimator clean --known checked --out F.json"),
            (
                "from three annotators, for the labels in the column 'label'",
                "holdfast labels estimate comments.csv --estimator annotators --voters ann,bob,cem --out F.json",
            ),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Estimate, say what was found, write."""
    data, parsed = read_arguments(argv, ARGUMENTS, "estimate")
    name = choice(parsed, "estimator", "auto", ESTIMATORS)
    if name == "clean" and "known" not in parsed.values:
        raise ConfigError("--estimator clean: needs --known with the column that holds the true classes.")
    _check_out(parsed.values.get("out"))
    from holdfast.labels.examples import read_examples

    examples = read_examples(data)
    truth = examples.columns.get("true_label", ())
    classes = tuple(sorted({*(names(parsed, "classes") or ()), *examples.classes, *filter(None, truth)}))
    observed = examples.indices(examples.labels, classes, "the label")
    rows = np.flatnonzero(examples.in_split(parsed.values.get("split", "train")))
    found = _estimate(parsed, name, examples, rows, observed, classes)
    _print(found, classes, len(rows))
    if any(truth):
        _print_truth(found, examples.indices(truth, classes, "'true_label'")[rows], observed[rows], classes)
    from holdfast.labels.transition import check_correctable

    try:
        check_correctable(found.transition, "the estimated matrix", force="force" in parsed.values)
    except DataError as error:
        raise DataError(str(error).replace("insist with force=true", "insist with --force") + " (nothing was written)") from None
    if parsed.values.get("out"):
        _write(parsed.values["out"], found, classes, data, len(rows))
    return 0


def _check_out(file: str | None) -> None:
    from holdfast.labels.transition import SUFFIXES

    if file is not None and not file.lower().endswith(SUFFIXES):
        raise ConfigError(f"--out {file}: expected a file name that ends in {', '.join(SUFFIXES)}.")


def _estimate(parsed: Parsed, name: str, examples: Examples, rows: IntArray, observed: IntArray, classes: Sequence[str]) -> Estimate:
    from holdfast.labels import estimate_transition

    draws, seed, shrink = whole(parsed, "bootstrap", 200), whole(parsed, "seed", 0), number(parsed, "shrink", 0.0, low=0, high=1)
    if name == "clean":
        known = known_labels(examples, parsed.values["known"], classes)
        return _from_clean(parsed, known[rows], observed[rows], len(classes), draws, seed, shrink)
    if name == "annotators":
        return _from_votes(parsed, examples, rows, observed, classes, draws, seed, shrink)
    percentile = None if parsed.values.get("percentile") == "none" else number(parsed, "percentile", 97.0, low=0, high=100)
    probs = judged(parsed, examples, rows.tolist(), observed[rows], len(classes))
    top_m = whole(parsed, "top_m", 1, low=1)
    return estimate_transition(
        probs, observed[rows], estimator=name, percentile=percentile, top_m=top_m, shrink=shrink, draws=draws, seed=seed
    )


def _from_clean(parsed: Parsed, known: IntArray, observed: IntArray, num_classes: int, draws: int, seed: int, shrink: float) -> Estimate:
    from holdfast.labels import bootstrap, from_clean_set
    from holdfast.labels.estimators import estimated, finish

    smoothing = number(parsed, "smoothing", 1.0, low=0)
    true, noisy = known[known >= 0], observed[known >= 0]

    def again(chosen: Any) -> FloatArray:
        return finish(from_clean_set(true[chosen], noisy[chosen], num_classes, smoothing=smoothing), shrink)

    found = finish(from_clean_set(true, noisy, num_classes, smoothing=smoothing), shrink)
    return estimated("clean", found, bootstrap(again, len(true), draws=draws, seed=seed) if draws else None)


def _from_votes(
    parsed: Parsed, examples: Examples, rows: IntArray, observed: IntArray, classes: Sequence[str], draws: int, seed: int, shrink: float
) -> Estimate:
    from holdfast.labels import bootstrap, dawid_skene, from_posterior
    from holdfast.labels.estimators import estimated, finish
    from holdfast.labels.voters import votes_of_columns, votes_of_votes

    columns = names(parsed, "voters")
    voted = votes_of_votes(examples, classes) if columns is None else votes_of_columns(examples, columns, classes)
    smoothing = number(parsed, "smoothing", 0.01, low=0)

    def again(chosen: Any) -> FloatArray:
        model = dawid_skene(voted.votes[rows][chosen], len(classes), smoothing=smoothing)
        return finish(from_posterior(model.probs, observed[rows][chosen]), shrink)

    found = again(np.arange(len(rows)))
    return estimated("annotators", found, bootstrap(again, len(rows), draws=draws, seed=seed) if draws else None)


# --------------------------------------------------------------------------------------------------------------- what is said


def _print(found: Estimate, classes: Sequence[str], rows: int) -> None:
    right = found.transition.diagonal()
    worst = int(right.argmin())
    print_lines(
        [
            f"Estimated by {found.estimator} from {rows} rows{': ' + found.reason if found.reason else ''}.",
            f"A label is right in {percent(float(right.mean()))} of cases, averaged over {len(classes)} classes; least often for "
            f"{classes[worst]!r} ({percent(float(right[worst]))}).",
            *_spread(found),
        ]
    )
    print_confusions(found.transition, classes, found.intervals)
    if found.others:
        print_table(
            ("estimator", "labels right", "rho", "distance to the one taken"),
            (
                (name, percent(float(np.mean(matrix.diagonal()))), _factor(matrix), _distance(matrix, found))
                for name, matrix in found.others.items()
            ),
        )


def _spread(found: Estimate) -> Iterator[str]:
    interval = "" if found.intervals is None else f" (95 % interval {found.intervals.rho[0]:.2f} to {found.intervals.rho[1]:.2f})"
    yield f"Correcting a loss with it makes it noisier by a factor rho of {found.rho:.2f}{interval}; condition number {found.cond:.3g}."


def _factor(matrix: FloatArray) -> str:
    from holdfast.labels.transition import rho

    return f"{rho(matrix):.2f}"


def _distance(matrix: FloatArray, found: Estimate) -> str:
    return f"{np.abs(matrix - found.transition).sum():.2f}"


def _print_truth(found: Estimate, true: IntArray, observed: IntArray, classes: Sequence[str]) -> None:
    """How far off the estimates are, where the table says the truth."""
    from holdfast.labels import empirical_transition

    rows = (true >= 0) & (observed >= 0)
    truth = empirical_transition(true[rows], observed[rows], len(classes))
    matrices = {f"{found.estimator} (taken)": found.transition, **(found.others or {}), "no noise at all": np.eye(len(classes))}
    print_lines(["The column 'true_label' tells the truth, which no estimate above has seen; sum of the absolute errors:"])
    print_table(("estimator", "error"), ((name, f"{np.abs(matrix - truth).sum():.2f}") for name, matrix in matrices.items()))


def _write(file: str, found: Estimate, classes: Sequence[str], data: str, rows: int) -> None:
    from pathlib import Path

    from holdfast.labels.transition import write_transition
    from holdfast.run.files import atomic_write, to_json

    Path(file).parent.mkdir(parents=True, exist_ok=True)
    if file.lower().endswith(".json"):
        with atomic_write(Path(file)) as stream:
            stream.write(to_json(found.record(data, rows, classes)).encode())
    else:
        write_transition(file, found.transition, classes=classes)
    print_lines([f"Written: {file}", f"Next: holdfast labels issues {shlex.quote(data)} --out sheet.html"])
