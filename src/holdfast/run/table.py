"""Tables of numbers as CSV: a header, one row a line, cells that are empty where a number is not known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress

__all__ = ["Cell", "Row", "csv_lines", "read_rows", "rows_up_to", "write_rows"]

Cell = float | int | str | None
Row = dict[str, Cell]


def read_rows(text: str) -> list[Row]:
    r"""Rows by column: numbers as numbers, empty cells as None, a half-written last line left out.

    Example:
        >>> read_rows("epoch,loss\n1,0.5\n2,\n3,0.")
        [{'epoch': 1, 'loss': 0.5}, {'epoch': 2, 'loss': None}]
    """
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    columns = next(reader, [])
    return [dict(zip(columns, map(_cell, [*row, *[""] * len(columns)]), strict=False)) for row in reader]


def write_rows(rows: Sequence[Row]) -> str:
    r"""The text of a table, nothing for no rows; a key that earlier rows lack becomes a new column.

    Example:
        >>> write_rows([{"epoch": 1}, {"epoch": 2, "loss": 0.5}])
        'epoch,loss\n1,\n2,0.5\n'
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return csv_lines([columns, *([row.get(column) for column in columns] for row in rows)]) if rows else ""


def csv_lines(lines: Iterable[Sequence[Cell]]) -> str:
    r"""Cells as lines of CSV, quoted where they must be.

    Example:
        >>> csv_lines([[1, "a,b", None]])
        '1,"a,b",\n'
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def rows_up_to(rows: Iterable[Row], step: int) -> list[Row]:
    """The rows whose ``step`` does not lie beyond the given one.

    Example:
        >>> rows_up_to([{"step": 3}, {"step": 6}], 5)
        [{'step': 3}]
    """
    return [row for row in rows if int(row["step"] or 0) <= step]


def _cell(text: str) -> Cell:
    """A table cell as the number it was, the text it was, or None where it is empty."""
    if not text:
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
