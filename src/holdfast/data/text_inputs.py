"""Texts to predict: files of lines and tables, labelled or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from holdfast.data.rows import read_rows
from holdfast.data.table import check_columns
from holdfast.errors import DataError

__all__ = ["NamedText", "list_texts"]

_TABLES = (".csv", ".tsv", ".jsonl")


class NamedText(NamedTuple):
    """A text and what to call it: its id, or file and line."""

    name: str
    text: str


def list_texts(paths: Sequence[str | Path]) -> list[NamedText]:
    """The texts in ``.txt`` files, one a line, and in the column ``text`` of ``.csv`` and ``.jsonl`` tables, in the order given.

    Names are the column ``id`` of a table that has it, else file and line. Blank lines of a ``.txt`` file are left out; an empty text in a
    table is not.

    Raises:
        DataError: A file does not exist or is no such file, or holds no text.
    """
    return [text for path in paths for text in _read(str(path))]


def _read(path: str) -> Iterator[NamedText]:
    if path.lower().endswith(_TABLES):
        yield from _rows(path)
    elif path.lower().endswith(".txt"):
        yield from _lines(path)
    elif not Path(path).exists():
        raise DataError(f"{path}: there is no such file; expected a .txt file with one text a line, or a .csv or .jsonl table.")
    else:
        raise DataError(f"{path}: this run reads texts; expected a .txt file with one text a line, or a .csv or .jsonl table.")


def _rows(path: str) -> Iterator[NamedText]:
    table = read_rows(path)
    check_columns(table, ("text",))
    ids = table.columns.get("id", ("",) * len(table.lines))
    for name, line, text in zip(ids, table.lines, table.columns["text"], strict=True):
        yield NamedText(name or f"{path}:{line}", text)


def _lines(path: str) -> Iterator[NamedText]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this is no text in UTF-8 (byte {error.start}); save it in UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({(error.strerror or str(error)).lower()}).") from None
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: there is no text in this file; expected one a line.")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield NamedText(f"{path}:{number}", line.strip())
