"""``--train-labels``: a table of labels, and where wanted weights, that take the place of those of training examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from holdfast.data.locate import composed
from holdfast.data.rows import Table, read_rows
from holdfast.data.source import FloatArray, IntArray, list_some
from holdfast.data.table import example_weight
from holdfast.errors import DataError, suggest

__all__ = ["TrainLabels", "read_train_labels"]


class TrainLabels(NamedTuple):
    """Labels in the place of others.

    Args:
        labels: Classes (N,) of all examples; only those of the training examples that the table names differ from what was given.
        weights: What each example counts (N,), 1 where the table says nothing; None where it has no such column.
    """

    labels: IntArray
    weights: FloatArray | None


def read_train_labels(
    file: str, *, spec: str, ids: Sequence[str], labels: IntArray, trained: IntArray, classes: Sequence[str]
) -> TrainLabels:
    """Read a table with the columns ``id``, ``label`` and perhaps ``weight``.

    Args:
        file: A ``.csv`` or ``.jsonl`` file.
        spec: The dataset as the user named it.
        ids: Ids of its examples (N).
        labels: Their classes (N,) as given.
        trained: Which rows of these are trained on.
        classes: Names of the classes.

    Raises:
        DataError: It lacks a column, names an example that is not trained on or names it twice, or a class that the dataset lacks.
    """
    table = read_rows(file)
    for name in ("id", "label"):
        if not all(table.columns.get(name, ("",))):
            raise DataError(f"--train-labels {file}: some rows have no {name}; expected the columns id and label, and where wanted weight.")
    rows = _rows(file, table, {ids[row]: row for row in trained.tolist()}, spec)
    place = {name: label for label, name in enumerate(classes)}
    found = labels.copy()
    found[rows] = [_class(file, table, line, name, place) for line, name in enumerate(table.columns["label"])]
    if not any(table.columns.get("weight", ())):
        return TrainLabels(found, None)
    weights = np.ones(len(labels))
    weights[rows] = [_weight(file, table, line, cell) for line, cell in enumerate(table.columns["weight"])]
    return TrainLabels(found, weights)


def _rows(file: str, table: Table, place: dict[str, int], spec: str) -> list[int]:
    named = table.columns["id"]
    unknown = [name for name in named if name not in place]
    if unknown:
        raise DataError(f"--train-labels {file}: no training example of {spec} is called {list_some(unknown, 3)}; leave these rows out.")
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise DataError(f"--train-labels {file}: {twice!r} is in more than one row; keep one.")
    return [place[name] for name in named]


def _class(file: str, table: Table, row: int, name: str, place: dict[str, int]) -> int:
    label = place.get(composed(name))
    if label is None:
        raise DataError(f"--train-labels {file}, {table.where([row])}: unknown class {name!r}. {suggest(name, place)}")
    return label


def _weight(file: str, table: Table, row: int, cell: str) -> float:
    weight = example_weight(cell)
    if weight is None:
        raise DataError(
            f"--train-labels {file}, {table.where([row])}: the weight {cell!r} is no number of at least 0; write one such as 0.5."
        )
    return weight
