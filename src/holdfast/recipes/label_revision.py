"""What clean labels of val do for those of train: a likelier F, and labels that are revised, for noise that no F can correct."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from holdfast.data import RunData
from holdfast.labels import bootstrap, judged_by_known, likeliest_transition, posterior_of_truth
from holdfast.labels.arrays import FloatArray, IntArray
from holdfast.labels.estimators import Estimate, estimated
from holdfast.run import Run

__all__ = ["REVISED", "revise", "teaches"]

log = logging.getLogger("holdfast")

REVISED = "estimate/labels.csv"

DRAWS = 50
"""Bootstrap resamples for the intervals; each takes an iteration to convergence."""

FEWEST = 50
"""Clean labels of val that are enough to teach a judge."""


def teaches(data: RunData) -> bool:
    """Whether val can teach a judge: its labels are clean, and there are some of each class."""
    if not data.has("val") or data.splits_record()["val_labels"] != "clean":
        return False
    counts = np.bincount(data.labels("val"), minlength=len(data.classes))
    lacking = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    if not lacking and counts.sum() >= FEWEST:
        return True
    why = f"class {lacking[0]!r} has none" if lacking else f"there are {counts.sum()}, and {FEWEST} are the fewest"
    log.warning("--labels robust: the clean labels of val select the epoch but do not help the estimate: %s", why)
    return False


def revise(run: Run, data: RunData, features: Mapping[str, FloatArray], *, seed: int) -> tuple[Estimate, dict[str, Any]]:
    """Write ``estimate/labels.csv``: the most probable class of each training example, given its features and its label.

    Args:
        run: Where it goes.
        data: Training examples, and val with clean labels.
        features: Pooled features (N, D) of the examples of ``train`` and ``val``.
        seed: Seed of cross-validation on val.

    Returns:
        The likeliest F; and what the record says of known rows and of the revision.
    """
    labels = data.labels("train")
    known = np.concatenate([np.full(len(labels), -1), data.labels("val")])
    both = np.concatenate([features["train"], features["val"]])
    probs = judged_by_known(both, known, len(data.classes), seed=seed)[: len(labels)]
    matrix = likeliest_transition(probs, labels)

    def again(rows: IntArray) -> FloatArray:
        return likeliest_transition(probs[rows], labels[rows], iterations=100, tol=1e-4)

    revised = posterior_of_truth(probs, labels, matrix)
    _write(run, data, revised)
    found = estimated("known-rows", matrix, bootstrap(again, len(labels), draws=DRAWS))
    return found, {"known": data.size("val"), "revised": _revision(data, revised)}


def _write(run: Run, data: RunData, revised: FloatArray) -> None:
    """As ``--train-labels`` reads it: classes weighed by their probability."""
    names, labels = data.classes, data.labels("train")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "label", "weight", "given"))
    rows = zip(data.ids("train"), revised.argmax(axis=1).tolist(), revised.max(axis=1).tolist(), labels.tolist(), strict=True)
    writer.writerows((name, names[label], f"{weight:.6g}", names[given]) for name, label, weight, given in rows)
    with run.writing(REVISED) as stream:
        stream.write(table.getvalue().encode())


def _revision(data: RunData, revised: FloatArray) -> dict[str, float]:
    """How much changes, how sure of it the judge is, and whether it is right, where the data tells the truth."""
    before, after, truth = data.labels("train"), revised.argmax(axis=1), data.true_labels("train")
    found = {"changed": float((before != after).mean()), "confidence": float(revised.max(axis=1).mean())}
    if truth is None or not (known := truth >= 0).any():
        return found
    right = {"right_before": (before == truth)[known].mean(), "right_after": (after == truth)[known].mean()}
    return found | {name: float(share) for name, share in right.items()}
