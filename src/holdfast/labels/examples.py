"""A dataset as this room sees it: rows with ids, labels, splits and what else a table says; written as a table that ``fit`` reads."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.locate import Locator, composed
from holdfast.data.opening import open_source
from holdfast.data.options import DataOptions
from holdfast.data.rows import Table, read_rows
from holdfast.data.source import DataSource, Listing, list_some, read_bytes
from holdfast.data.splits import make_splits
from holdfast.data.text_source import line_ids
from holdfast.errors import DataError, RunError
from holdfast.labels.arrays import ABSTAIN, IntArray, MaskArray
from holdfast.run.files import atomic_write

__all__ = ["Examples", "read_examples", "write_examples"]

TABLES = (".csv", ".tsv", ".jsonl")
OWN_COLUMNS = ("id", "path", "text", "label", "split")


@dataclass(frozen=True)
class Examples:
    """Rows in the order of the table, or of the ids where there is none.

    Args:
        spec: The dataset as the user named it.
        ids: Name of each row; its line where the table gives none.
        labels: Name of the class of each row, empty where it has none.
        splits: Split of each row, or None where none is given.
        columns: All columns of the table by name, empty for other datasets.
        source: The images behind the ids, unless the rows are texts of a table or images that a table names.
        root: Folder that paths are relative to.
        named: Whether the ids are names and not lines.
    """

    spec: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None
    columns: Mapping[str, tuple[str, ...]]
    source: DataSource | None = None
    root: Path | None = None
    named: bool = True
    table: Table | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The texts, where these are texts."""
        return self.columns.get("text") if "path" not in self.columns else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that labels have, sorted, as everywhere."""
        return tuple(sorted(set(self.labels) - {""}))

    def indices(self, names: Sequence[str], classes: Sequence[str], what: str) -> IntArray:
        """Names as classes (N,), -1 where a name is empty.

        Raises:
            DataError: A name is no class; the message names the row.
        """
        place = {name: number for number, name in enumerate(classes)}
        unknown = [row for row, name in enumerate(names) if name and name not in place]
        if unknown:
            more = f", the first of {len(unknown)} such" if len(unknown) > 1 else ""
            raise DataError(
                f"{self.spec}, {self.where(unknown[0])}: {what} is {names[unknown[0]]!r}{more}; the classes are {list_some(list(classes))}."
            )
        return np.array([place.get(name, ABSTAIN) for name in names], dtype=np.int64)

    def where(self, row: int) -> str:
        """A row in words: its line in the table, or its id."""
        return repr(self.ids[row]) if self.table is None else self.table.where([row])

    def column(self, name: str, option: str) -> tuple[str, ...]:
        """A column that an option names.

        Raises:
            DataError: There is none; the message lists those there are.
        """
        if name not in self.columns:
            there = list_some(list(self.columns)) if self.columns else "none, since this is no table"
            raise DataError(f"{option} {name}: {self.spec} has no such column; there is {there}.")
        return self.columns[name]

    def in_split(self, split: str) -> MaskArray:
        """Rows (N,) of a split: all of them for ``all``, and where no splits are given.

        Raises:
            DataError: No row is of the split.
        """
        if split == "all" or self.splits is None:
            return np.ones(len(self), dtype=bool)
        found = np.array([name == split for name in self.splits])
        if not found.any():
            raise DataError(f"--split {split}: {self.spec} has no such row; its splits are {list_some(sorted(set(self.splits)))}.")
        return found

    def with_splits(self, options: DataOptions) -> Examples:
        """With the splits that ``holdfast fit`` would cut of it, where some are missing.

        Args:
            options: Shares and seed; see :func:`holdfast.data.splits.make_splits`.
        """
        listing = Listing.of(self.ids, self.labels, given=self.splits, unit="image" if self.texts is None else "text")
        names = ["" for _ in self.ids]
        place = {name: row for row, name in enumerate(self.ids)}
        for split, rows in make_splits(listing, options).rows.items():
            for row in rows.tolist():
                names[place[listing.ids[row]]] = split
        return replace(self, splits=tuple(names))

    def image(self, row: int) -> bytes:
        """The bytes of an image.

        Raises:
            DataError: It cannot be read; the message names it.
        """
        try:
            if self.source is not None:
                return read_bytes(self.source, self.ids[row])
            return Path(self.file(row)).read_bytes()
        except (DataError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.spec}, {self.where(row)}: the image {self.ids[row]!r} cannot be read ({reason}).") from None

    def file(self, row: int) -> str:
        """The file that the table names."""
        assert self.root is not None
        return Locator(self.root).locate(self.columns["path"][row])[1]


# -------------------------------------------------------------------------------------------------------------------- reading


def read_examples(spec: str, *, need_labels: bool = True) -> Examples:
    """Read a dataset as rows; no image is opened.

    Args:
        spec: A table of images or texts, or any DATA of ``fit``.
        need_labels: Whether each row needs a label.

    Raises:
        DataError: It cannot be used as it is; the message names the lines.
    """
    if not spec.lower().endswith(TABLES) or Path(spec).is_dir():
        source = open_source(spec)
        listing = source.listing
        names = tuple(listing.classes[label] for label in listing.labels)
        return Examples(spec, listing.ids, names, listing.given, {}, source, source.root)
    table = read_rows(spec)
    columns = dict(table.columns)
    if "path" not in columns and "text" not in columns:
        raise DataError(f"{spec}: there is neither a column 'path' nor a column 'text'; there is {list_some(list(columns))}.")
    labels = tuple(map(composed, columns.get("label", ("",) * len(table.lines))))
    _refuse_empty(table, "text" if "path" not in columns else "path", columns)
    if need_labels:
        _refuse_empty(table, "label", {"label": labels})
    splits = _splits(table)
    ids = columns.get("id") or (columns["path"] if "path" in columns else tuple(line_ids(table.lines, splits)))
    if len(set(ids)) < len(ids):
        (twice, _), *_ = Counter(ids).most_common(1)
        raise DataError(f"{spec}: {twice!r} names more than one row; give each an id of its own in a column 'id'.")
    named = "id" in columns or "path" in columns
    return Examples(spec, ids, labels, splits, columns, None, Path(spec).parent, named, table)


def _refuse_empty(table: Table, name: str, columns: Mapping[str, Sequence[str]]) -> None:
    empty = [row for row, cell in enumerate(columns[name]) if not cell]
    if empty:
        rows = "one row has" if len(empty) == 1 else f"{len(empty)} rows have"
        raise DataError(f"{table.spec}: {rows} no {name} ({table.where(empty)}); fill it in, or leave these rows out.")


def _splits(table: Table) -> tuple[str, ...] | None:
    cells = table.columns.get("split", ())
    if not any(cells):
        return None
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty:
        raise DataError(f"{table.spec}: some rows have no split ({table.where(empty)}); write train, val or test into each.")
    return tuple(SPLIT_FOLDERS.get(cell.lower(), cell) for cell in cells)


# -------------------------------------------------------------------------------------------------------------------- writing


def write_examples(file: str, examples: Examples, columns: Mapping[str, Sequence[str]], *, rows: Sequence[int] | None = None) -> None:
    """Write a table that ``holdfast fit`` reads.

    Paths are relative to the folder of the new table. Images that are no files, such as those of ``demo:digits``, are written into a folder
    beside it.

    Args:
        file: A name that ends in ``.csv`` or ``.jsonl``.
        examples: The rows.
        columns: Columns that replace those of the examples, or are added.
        rows: Which rows are written, in which order; all by default.

    Raises:
        RunError: It cannot be written.
    """
    chosen = range(len(examples)) if rows is None else rows
    table = {name: list(cells) for name, cells in _own(examples).items()} | {name: list(cells) for name, cells in columns.items()}
    kept = {name: [cells[row] for row in chosen] for name, cells in table.items()}
    try:
        if examples.texts is None:
            kept["path"] = _paths(file, examples, chosen)
        _write(file, kept)
    except OSError as error:
        raise RunError(f"--out {file}: cannot be written: {error.strerror or error}.") from error


def _own(examples: Examples) -> dict[str, Sequence[str]]:
    """The columns to begin with, in a fixed order; rows keep their names."""
    blank: Sequence[str] = ("",) * len(examples)
    own: dict[str, Sequence[str]] = {"id": examples.ids} if examples.named else {}
    own |= {"text": examples.texts} if examples.texts is not None else {"path": blank}
    own |= {"label": examples.labels}
    own |= {"split": examples.splits} if examples.splits is not None else {}
    return own | {name: cells for name, cells in examples.columns.items() if name not in OWN_COLUMNS}


def _paths(file: str, examples: Examples, rows: Sequence[int]) -> list[str]:
    """Where each image lies, seen from the folder of the table."""
    folder = Path(file).parent
    if examples.source is None:
        found = [examples.file(row) for row in rows]
    else:
        root = examples.root
        found = [str(root / examples.ids[row]) if root is not None else "" for row in rows]
        if not all(path and os.path.lexists(path) for path in found):
            found = _exported(file, examples, rows)
    return [Path(os.path.relpath(path, folder)).as_posix() for path in found]


def _exported(file: str, examples: Examples, rows: Sequence[int]) -> list[str]:
    """Images that are no files, as files."""
    folder = Path(file).with_suffix("").with_name(f"{Path(file).stem}_images")
    files = []
    for row in rows:
        data = examples.image(row)
        name = examples.ids[row].replace("/", "_").replace(os.sep, "_").replace(":", "_")
        path = folder / (name if Path(name).suffix else f"{name}{_ending(data)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        files.append(str(path))
    return files


def _ending(data: bytes) -> str:
    signatures = {b"P5": ".pgm", b"P6": ".ppm", b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
    return next((ending for start, ending in signatures.items() if data.startswith(start)), ".png")


def _write(file: str, columns: Mapping[str, Sequence[str]]) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    records = list(zip(*columns.values(), strict=True))
    with atomic_write(Path(file)) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        if file.lower().endswith(".jsonl"):
            names = tuple(columns)
            text.writelines(json.dumps(_record(names, record), ensure_ascii=False) + "\n" for record in records)
        else:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(records)
        text.flush()
        text.detach()


def _record(names: Sequence[str], cells: Sequence[str]) -> dict[str, object]:
    """A row as an object; votes are nested, as they were read."""
    return {
        name: json.loads(cell) if name == "votes" and cell.startswith(("{", "[")) else cell for name, cell in zip(names, cells, strict=True)
    }
