"""Size, spread and separation of the features that enter the head, at the start and now, on the same examples."""

from __future__ import annotations

from typing import Any

from holdfast.auditing.forward import Columns, pass_over
from holdfast.auditing.subject import Subject
from holdfast.measures.features import pca_view
from holdfast.measures.tracking import measure_features

__all__ = ["features_section"]

SHOWN = 1024
"""Most points of the view along principal directions."""

DIGITS = 5


def features_section(subject: Subject, *, most: int, seed: int, batch_size: int | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The section ``features``, or None with the reason in a note.

    Args:
        subject: The network and its start.
        most: Training examples to measure on, drawn by ``seed``.
        seed: Of the examples.
        batch_size: Examples at once.
    """
    if subject.head_name is None:
        return None, ["Features were left out: the network has no Linear layer at its end that they would enter."]
    batches = subject.sample(most, seed, batch_size or most)
    model = pass_over(subject, batches, features=True)
    if not _measurable(model):
        return None, ["Features were left out: they are measured for a classification whose head takes one vector for each example."]
    assert model.features is not None
    start = pass_over(subject, batches, tensors=subject.start, features=True) if subject.start is not None else None
    own, before = (None if columns is None else _numbers(columns) for columns in (model, start))
    assert own is not None
    if before is not None and not subject.has_start_of_head:
        before["gradient_norm"] = None  # the logits are those of a head that the start never had
    pairs = {
        name: {"reference": None if before is None else before[column], "model": own[column]}
        for name, column in (
            ("norm", "feature_norm"),
            ("norm_of_mean", "norm_of_mean_feature"),
            *((name, name) for name in ("entropy", "conditional_entropy", "mutual_information", "gradient_norm")),
        )
    }
    return {
        "examples": len(model.labels),
        "split": "train",
        **pairs,
        "left_out": own["left_out"],
        "pca": _views(subject, seed, batch_size),
    }, []


def _measurable(columns: Columns) -> bool:
    return columns.classified and columns.features is not None and columns.features.ndim == 2


def _numbers(columns: Columns) -> dict[str, Any]:
    assert columns.features is not None
    return dict(measure_features(columns.features, columns.labels, columns.logits))


def _views(subject: Subject, seed: int, batch_size: int | None) -> dict[str, Any]:
    """The first two principal directions of each, for at most ``SHOWN`` examples, held-out ones where there are some."""
    split = subject.held_out or "train"
    batches = subject.sample(SHOWN, seed, batch_size or SHOWN, split=split)
    model = pass_over(subject, batches, features=True)
    start = None if subject.start is None else pass_over(subject, batches, tensors=subject.start, features=True)
    views = {
        name: None if columns is None or columns.features is None else pca_view(columns.features)
        for name, columns in (("reference", start), ("model", model))
    }
    described = {
        name: None
        if view is None
        else {
            "explained_variance_ratio": view.explained_variance_ratio.tolist(),
            "points": [[round(value, DIGITS) for value in point] for point in view.projection.tolist()],
        }
        for name, view in views.items()
    }
    return {"split": split, "labels": model.labels.tolist(), **described}
