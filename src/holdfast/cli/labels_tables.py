"""How the commands below ``holdfast labels`` show what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from holdfast.cli.terminal import out
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.labels import Intervals
    from holdfast.labels.arrays import FloatArray

__all__ = ["print_confusions", "print_lines", "print_table"]

MOST_CONFUSIONS = 8


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """A table whose first columns are texts and whose others are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table, soft_wrap=True)


def print_lines(lines: Iterable[str]) -> None:
    """Sentences, one a line."""
    for line in lines:
        out.print(Text(line), soft_wrap=True)


def print_confusions(matrix: FloatArray, classes: Sequence[str], intervals: Intervals | None = None) -> None:
    """The largest entries off the diagonal: which class is taken for which, and how often."""
    off = matrix.copy()
    np.fill_diagonal(off, -1.0)
    order = [divmod(int(place), len(matrix)) for place in np.argsort(-off, axis=None, kind="stable")]
    shown = [(true, seen) for true, seen in order if off[true, seen] >= 0.0005][:MOST_CONFUSIONS]
    if not shown:
        print_lines(["No class is taken for another."])
        return
    interval = ["95 % interval"] if intervals is not None else []
    rows = [
        [classes[true], classes[seen], percent(float(matrix[true, seen])), *([_interval(intervals, true, seen)] if intervals else [])]
        for true, seen in shown
    ]
    print_table(("true class", "labelled as", "share", *interval), rows, left=2)


def _interval(intervals: Intervals, true: int, seen: int) -> str:
    return f"{100 * intervals.low[true, seen]:.1f} to {100 * intervals.high[true, seen]:.1f}"
