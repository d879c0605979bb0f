"""The review sheet: suspect labels for a person to mark, and what becomes of the marks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.fingerprint import data_fingerprint
from holdfast.data.rows import Table, read_rows
from holdfast.data.source import list_some
from holdfast.errors import DataError, RunError
from holdfast.labels.examples import Examples
from holdfast.run.files import atomic_write

__all__ = ["COLUMNS", "DECISIONS", "Decision", "SheetRow", "read_decisions", "sheet_fingerprint", "write_csv_sheet"]

COLUMNS = ("rank", "id", "label", "suggested", "score", "decision", "new_label", "content", "sheet")
DECISIONS = ("keep", "change", "drop")
"""What a person may write: the label is right; it is ``new_label``, or the suggested one; the example is no good."""


@dataclass(frozen=True)
class SheetRow:
    """One suspect.

    Args:
        row: Its row among the examples.
        id: Its id.
        label: The label it has.
        suggested: The class that fits better.
        score: How well the label fits, from 0 to 1.
        content: Its text, or its path.
    """

    row: int
    id: str
    label: str
    suggested: str
    score: float
    content: str


@dataclass(frozen=True)
class Decision:
    """What a person decided: ``label`` is the new one, or None where the example is to be dropped."""

    id: str
    label: str | None


def sheet_fingerprint(examples: Examples) -> str:
    """What binds a sheet to its dataset: 16 digits over ids, labels, splits and texts."""
    splits = examples.splits or ("",) * len(examples)
    texts = examples.texts or ("",) * len(examples)
    return data_fingerprint(zip(examples.ids, examples.labels, splits, texts, strict=True))[:16]


def write_csv_sheet(file: str, rows: Sequence[SheetRow], fingerprint: str) -> None:
    """Write the sheet as CSV with empty columns ``decision`` and ``new_label``.

    Raises:
        RunError: It cannot be written.
    """
    try:
        with atomic_write(Path(file)) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(COLUMNS)
            for rank, row in enumerate(rows, start=1):
                writer.writerow((rank, row.id, row.label, row.suggested, f"{row.score:.4f}", "", "", row.content, fingerprint))
            text.flush()
            text.detach()
    except OSError as error:
        raise RunError(f"--out {file}: cannot be written: {error.strerror or error}.") from error


def read_decisions(file: str, examples: Examples) -> list[Decision]:
    """Read a marked sheet; rows without a mark say nothing.

    Args:
        file: The CSV that a person has filled in, or that the HTML page has saved.
        examples: The dataset it was made of, unchanged.

    Raises:
        DataError: It is no such sheet, belongs to another dataset, or a mark cannot be understood; the message names the line.
    """
    table = read_rows(file)
    missing = [name for name in ("id", "label", "decision", "sheet") if name not in table.columns]
    if missing:
        raise DataError(f"--review {file}: this is no review sheet; it lacks the column {missing[0]!r}.")
    _check_dataset(file, table, examples)
    label_of = dict(zip(examples.ids, examples.labels, strict=True))
    decisions = [_decision(file, table, row, label_of, examples.classes) for row in range(len(table.lines))]
    return [decision for decision in decisions if decision is not None]


def _check_dataset(file: str, table: Table, examples: Examples) -> None:
    sheets = set(table.columns["sheet"]) - {""}
    own = sheet_fingerprint(examples)
    if sheets == {own}:
        return
    if not sheets:
        raise DataError(f"--review {file}: its column 'sheet' is empty, so it cannot be told which dataset it belongs to; do not clear it.")
    if len(sheets) > 1:
        raise DataError(f"--review {file}: its rows come from {len(sheets)} different sheets; apply one after the other.")
    raise DataError(
        f"--review {file}: this sheet was made of other data (its mark is {sheets.pop()}, that of {examples.spec} is {own}); ids, labels, "
        "splits or texts differ. Give the dataset it was made of, or make a new sheet."
    )


def _decision(file: str, table: Table, row: int, label_of: Mapping[str, str], classes: Sequence[str]) -> Decision | None:
    place = f"--review {file}, {table.where([row])}"
    columns = table.columns
    name, mark = columns["id"][row], columns["decision"][row].lower()
    new_label = columns["new_label"][row] if "new_label" in columns else ""
    if name not in label_of:
        raise DataError(f"{place}: there is no example {name!r} in the dataset.")
    if mark and mark not in DECISIONS:
        raise DataError(
            f"{place}: the decision {columns['decision'][row]!r} is none of {', '.join(DECISIONS)}; leave it empty for no decision."
        )
    if new_label and new_label not in classes:
        raise DataError(f"{place}: the new label {new_label!r} is no class; the classes are {list_some(list(classes))}.")
    if new_label and mark in ("keep", "drop"):
        raise DataError(f"{place}: the decision is {mark!r}, and yet there is a new label {new_label!r}; keep one of them.")
    if mark == "drop":
        return Decision(name, None)
    if mark == "change" or new_label:
        return Decision(name, new_label or columns["suggested"][row])
    return Decision(name, label_of[name]) if mark == "keep" else None
