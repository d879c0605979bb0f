"""From a table file to columns of text: CSV (commas, semicolons or tabs) or JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import DataError

__all__ = ["KNOWN_COLUMNS", "Table", "read_rows"]

KNOWN_COLUMNS = ("path", "label", "split", "weight", "id", "text", "votes", "source")
"""Columns with a meaning, found whatever their case; all others keep their names."""

_DELIMITERS = ",;\t"
_LONGEST_LIST = 10


@dataclass(frozen=True)
class Table:
    """Columns of text, as they stand in a file.

    Args:
        spec: The file as the user named it.
        lines: Line (N) of the file on which each row begins, counted from 1.
        columns: Cells (N) of each column, without blanks around them; empty where a row says nothing.
    """

    spec: str
    lines: tuple[int, ...]
    columns: Mapping[str, tuple[str, ...]]

    def where(self, rows: Sequence[int]) -> str:
        """The lines of some rows in words: ``line 3``; ``lines 3, 4 and 20 more``."""
        return _line_words([self.lines[row] for row in rows])


def read_rows(spec: str) -> Table:
    """The rows of a ``.jsonl`` file, or else of a CSV file, whose delimiter is told by its header.

    Args:
        spec: The file.

    Raises:
        DataError: The file is missing, is no text in UTF-8, or is no such table; the message names the line.
    """
    text = _read_text(spec)
    if not text.strip():
        raise DataError(f"{spec}: the table is empty; expected a header such as path,label or text,label, and one row for each example.")
    return _from_json_lines(spec, text) if spec.lower().endswith(".jsonl") else _from_csv(spec, text)


def _read_text(spec: str) -> str:
    try:
        data = Path(spec).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{spec}: there is no such file; expected a table with the columns path or text, and label.") from None
    except OSError as error:
        raise DataError(f"{spec}: the table cannot be read ({(error.strerror or str(error)).lower()}).") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise DataError(f"{spec}: this is no text in UTF-8 (it may be UTF-16, or no text at all); save the table as CSV in UTF-8.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{spec}, line {line}: the byte 0x{error.object[error.start]:02x} is not UTF-8, so the table is in another encoding, "
            "perhaps Windows-1252; save it as CSV in UTF-8."
        ) from None


# ------------------------------------------------------------------------------------------------------------------------ CSV


def _from_csv(spec: str, text: str) -> Table:
    delimiter = _delimiter(text)
    records = _csv_records(spec, text, delimiter)
    header_line, header = next(records)
    names = _column_names(f"{spec}, line {header_line}", header)
    lines, rows = [], []
    ragged: list[tuple[int, int]] = []
    for line, cells in records:
        while len(cells) > len(names) and not cells[-1]:  # spreadsheets end rows in empty cells
            cells.pop()
        if len(cells) != len(names):
            ragged.append((line, len(cells)))
        lines.append(line)
        rows.append(cells)
    if ragged:
        raise DataError(_ragged_message(spec, ragged, len(names), delimiter))
    if not rows:
        raise DataError(f"{spec}: there is a header but no row below it.")
    columns = {name: tuple(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True) if name}
    return Table(spec, tuple(lines), columns)


def _delimiter(text: str) -> str:
    """The one that cuts the header into most names; the comma among equals."""
    header = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0][:10_000]
    return max(_DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark))))


def _csv_records(spec: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """First line and stripped cells of each record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 1
    while True:
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{spec}, line {line}: the quotes do not fit ({error}); close each quoted value, and write a quote within it twice."
            ) from None
        if any(cells):
            yield line, cells
        line = reader.line_num + 1


def _ragged_message(spec: str, ragged: list[tuple[int, int]], expected: int, delimiter: str) -> str:
    shown = "a tab" if delimiter == "\t" else f"'{delimiter}'"
    hint = f"put a value that contains {shown} into double quotes"
    if len(ragged) == 1:
        line, found = ragged[0]
        return f"{spec}, line {line}: {found} values where the header names {expected} columns; {hint}."
    lines = _line_words([line for line, _ in ragged])
    return f"{spec}: {len(ragged)} rows have more or fewer values than the {expected} columns of the header ({lines}); {hint}."


# ----------------------------------------------------------------------------------------------------------------- JSON lines


def _from_json_lines(spec: str, text: str) -> Table:
    lines: list[int] = []
    rows: list[dict[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            lines.append(number)
            rows.append(_json_row(f"{spec}, line {number}", line.strip()))
    names = dict.fromkeys(name for row in rows for name in row if name)
    return Table(spec, tuple(lines), {name: tuple(row.get(name, "") for row in rows) for name in names})


def _json_row(place: str, line: str) -> dict[str, str]:
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg.lower()}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise DataError(f"{place}: this is no JSON ({reason}); expected one object a line.") from None
    if not isinstance(value, dict):
        words = "a list" if isinstance(value, list) else "a single value"
        raise DataError(f'{place}: this is {words}; expected one object a line, such as {{"path": "a/1.jpg", "label": "a"}}.')
    names = _column_names(place, list(value))
    return {name: _cell_text(place, name, cell) for name, cell in zip(names, value.values(), strict=True)}


def _cell_text(place: str, name: str, value: Any) -> str:
    """A JSON value as a cell of a table: null and NaN are empty, 3.0 is 3, and what is nested stays JSON."""
    if isinstance(value, str):
        if "\0" in value:
            raise DataError(f"{place}: {name!r} holds a NUL character; remove it.")
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict):
        if name in ("path", "text", "label", "split", "weight", "id"):
            raise DataError(f"{place}: {name!r} is {json.dumps(value, ensure_ascii=False)[:60]}; expected a text or a number.")
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# ----------------------------------------------------------------------------------------------------------------------- both


def _column_names(place: str, header: Iterable[str]) -> list[str]:
    """Names without blanks around them, those with a meaning in lower case; a column without a name gets none."""
    stripped = [name.strip() for name in header]
    names = [name.lower() if name.lower() in KNOWN_COLUMNS else name for name in stripped]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{place}: there are two columns {twice!r}; keep one of them.")
    return names


def _line_words(lines: Sequence[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    shown = ", ".join(map(str, lines[:_LONGEST_LIST]))
    return f"lines {shown} and {len(lines) - _LONGEST_LIST} more" if len(lines) > _LONGEST_LIST else f"lines {shown}"
