"""Tables of labelled examples: ``.csv`` and ``.jsonl`` files with the columns ``path`` or ``text``, ``label``, and what else there is."""

from __future__ import annotations

import difflib
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from holdfast.data.folder import IMAGE_EXTENSIONS, SPLIT_FOLDERS
from holdfast.data.locate import Locator, composed
from holdfast.data.rows import Table, read_rows
from holdfast.data.source import FloatArray, Listing, list_some
from holdfast.data.text_source import TextSource, line_ids
from holdfast.errors import DataError

__all__ = ["TableSource", "check_columns", "content_column", "example_weight", "read_table"]

log = logging.getLogger("holdfast")

_USED = ("path", "text", "label", "split", "weight", "id")

_OTHER_NAMES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path", "image_id", "name"),
    "text": ("texts", "sentence", "sentences", "review", "comment", "content", "question", "message", "document", "body", "tweet"),
    "label": ("labels", "class", "class_name", "category", "target", "y", "species"),
}
"""What these columns are called elsewhere, for the suggestion."""


@dataclass(frozen=True)
class TableSource:
    """Images that a table names."""

    spec: str
    root: Path
    listing: Listing
    files: Mapping[str, str]

    def open(self, image: str) -> BinaryIO:
        """The file of an id."""
        return open(self.files[image], "rb")

    def size(self, image: str) -> int:
        """Bytes of that file."""
        try:
            return os.stat(self.files[image]).st_size
        except OSError:
            return 0


def read_table(spec: str, *, test_split: str | None = None) -> TableSource | TextSource:
    """List the images or the texts of a table; no image is opened.

    Relative paths are relative to the table's folder. Ids are the column ``id``, else these paths, or for texts split and line. Where
    ids of images are a column, the paths are a further column of the listing.

    Args:
        spec: The table.
        test_split: A further name that means a split.

    Raises:
        DataError: The table cannot be used as it is; the message names the lines.
    """
    table = read_rows(spec)
    check_columns(table, (content_column(table), "label"))
    unit = "text" if "text" in table.columns else "image"
    labels = [composed(label) for label in _filled(table, "label", f"write the class of each {unit}, or leave these rows out")]
    root = Path(spec).parent
    splits = _splits(table, test_split)
    columns = {name: cells for name, cells in table.columns.items() if name not in _USED}
    source: TableSource | TextSource
    if unit == "text":
        ids = _given_ids(table) or line_ids(table.lines, splits)
        listing = Listing.of(ids, labels, given=splits, weights=_weights(table), columns=columns, unit=unit)
        source = TextSource(spec, root, listing, dict(zip(ids, table.columns["text"], strict=True)))
    else:
        paths, files = _locate(table, root)
        ids = _ids(table, paths, files)
        if ids is not paths:
            columns["path"] = tuple(paths)
        listing = Listing.of(ids, labels, given=splits, weights=_weights(table), columns=columns)
        source = TableSource(spec, root, listing, dict(zip(ids, files, strict=True)))
    _warn_of_likely_slips(table, listing.classes)
    return source


# -------------------------------------------------------------------------------------------------------------------- columns


def check_columns(table: Table, needed: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: It names the columns that are missing, and those that may be meant.
    """
    columns = table.columns
    missing = [name for name in needed if name not in columns]
    if not missing:
        return
    if any(os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS for name in columns):
        raise DataError(f"{table.spec}: the first line holds a row, not the names of the columns; put a line such as path,label above it.")
    if missing == ["label"] and "votes" in columns:
        raise DataError(
            f"{table.spec}: there are votes but no column 'label'; make labels of the votes with 'holdfast labels aggregate {table.spec} "
            "--out FILE', and fit to that file."
        )
    names = " and ".join(repr(name) for name in missing)
    hints = [f"rename {near!r} to {name!r}" for name in missing if (near := _other_name(name, columns)) is not None]
    advice = " and ".join(hints) if len(hints) == len(missing) else f"the columns are {list_some(tuple(columns))}"
    raise DataError(f"{table.spec}: the column{'s' * (len(missing) > 1)} {names} {'is' if len(missing) == 1 else 'are'} missing; {advice}.")


def content_column(table: Table) -> str:
    """The column that holds the examples: ``path`` or ``text``; where there is neither, the one that was probably meant.

    Raises:
        DataError: There are both.
    """
    columns = table.columns
    if "path" in columns and "text" in columns:
        raise DataError(
            f"{table.spec}: there are a column 'path' and a column 'text', so the examples may be images or texts; rename the column that "
            "is not to be read."
        )
    if "text" in columns or ("path" not in columns and _other_name("path", columns) is None and _known_name("text", columns) is not None):
        return "text"
    return "path"


def _known_name(wanted: str, columns: Iterable[str]) -> str | None:
    by_key = {name.lower().replace(" ", "_").replace("-", "_"): name for name in columns}
    return next((by_key[name] for name in _OTHER_NAMES[wanted] if name in by_key), None)


def _other_name(wanted: str, columns: Iterable[str]) -> str | None:
    """The column that was probably meant."""
    by_key = {name.lower().replace(" ", "_").replace("-", "_"): name for name in columns}
    known = _known_name(wanted, columns)
    near = difflib.get_close_matches(wanted, by_key, n=1)
    return known or (by_key[near[0]] if near else None)


def _filled(table: Table, name: str, advice: str) -> Sequence[str]:
    """The cells of a column, none of which may be empty."""
    cells = table.columns[name]
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty:
        rows = "one row has" if len(empty) == 1 else f"{len(empty)} rows have"
        raise DataError(f"{table.spec}: {rows} no {name} ({table.where(empty)}); {advice}.")
    return cells


def _optional(table: Table, name: str, advice: str) -> Sequence[str] | None:
    """The cells of a column; None where it is missing or entirely empty."""
    return _filled(table, name, advice) if any(table.columns.get(name, ())) else None


def _warn_of_likely_slips(table: Table, classes: Sequence[str]) -> None:
    for name in table.columns:
        near = difflib.get_close_matches(name.lower(), [known for known in _USED if known not in table.columns], n=1, cutoff=0.8)
        if near:
            log.warning("%s: the column %r has no meaning; did you mean %r?", table.spec, name, near[0])
    spellings: dict[str, list[str]] = {}
    for name in classes:
        spellings.setdefault(" ".join(name.casefold().split()), []).append(name)
    for names in spellings.values():
        if len(names) > 1:
            log.warning("%s: the classes %s differ in capitals or blanks only; are they one?", table.spec, list_some(names))


# ---------------------------------------------------------------------------------------------------------- images and ids


def _locate(table: Table, root: Path) -> tuple[list[str], list[str]]:
    """Path relative to the table's folder and file of each row."""
    spelled = _filled(table, "path", "write the file of each image, or leave these rows out")
    links = [row for row, path in enumerate(spelled) if "://" in path]
    if links:
        raise DataError(f"{table.spec}, {table.where(links[:1])}: {spelled[links[0]]!r} is no file; download the images first.")
    locator = Locator(root)
    paths, files = map(list, zip(*map(locator.locate, spelled), strict=True))
    if not any(map(os.path.lexists, files)):
        raise DataError(_nothing_there(table, root, spelled))
    return paths, files


def _nothing_there(table: Table, root: Path, spelled: Sequence[str]) -> str:
    message = (
        f"{table.spec}: none of its {len(spelled)} images exists ({list_some(spelled, 3)}); paths are relative to the folder of the table, "
        f"{os.path.abspath(root)!r}"
    )
    if os.path.exists(spelled[0]):
        return f"{message}, and these are relative to the working directory; move the table there."
    return f"{message}; correct them, or move the table."


def _ids(table: Table, paths: list[str], files: list[str]) -> list[str]:
    """The ids of the rows: ``paths`` itself where there is no column of ids."""
    given = _given_ids(table)
    if given is not None:
        return given
    _refuse_twice(table, files, paths, "the image", "keep one row of each, or tell them apart by a column 'id'")
    return paths


def _given_ids(table: Table) -> list[str] | None:
    given = _optional(table, "id", "give each row an id of its own, or remove the column")
    if given is None:
        return None
    _refuse_twice(table, given, given, "the id", "give each row an id of its own")
    return list(given)


def _refuse_twice(table: Table, keys: Sequence[str], names: Sequence[str], what: str, advice: str) -> None:
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    repeated = [same for same in rows.values() if len(same) > 1]
    if repeated:
        first = repeated[0]
        named = f"{what} {names[first[0]]!r} is in more than one row ({table.where(first)})"
        raise DataError(f"{table.spec}: {named}{_first_of(len(repeated))}; {advice}.")


def _first_of(number: int) -> str:
    """What follows the one that is named, where there are others like it."""
    return f", the first of {number} such" if number > 1 else ""


# --------------------------------------------------------------------------------------------------------- splits and weights


def _splits(table: Table, test_split: str | None) -> list[str] | None:
    advice = "write train, val or test into each row, or remove the column"
    cells = _optional(table, "split", advice)
    if cells is None:
        return None
    splits = [SPLIT_FOLDERS.get(cell.lower(), cell) for cell in cells]
    known = {*SPLIT_FOLDERS.values(), test_split}
    unknown = [row for row, split in enumerate(splits) if split not in known]
    if unknown:
        raise DataError(_unknown_split(table, unknown, cells[unknown[0]]))
    if "train" not in splits:
        raise DataError(f"{table.spec}: no row is of the split train; there is only {list_some(sorted(set(splits)))}.")
    return splits


def _unknown_split(table: Table, rows: Sequence[int], value: str) -> str:
    near = difflib.get_close_matches(value.lower(), SPLIT_FOLDERS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"to test on these rows, type --test-split {value}."
    place = f"{table.spec}, {table.where(rows[:1])}"
    return f"{place}: unknown split {value!r}{_first_of(len(rows))}; expected train, val or test; {hint}"


def _weights(table: Table) -> FloatArray | None:
    cells = _optional(table, "weight", "write 1 where nothing is special")
    if cells is None:
        return None
    weights = np.array([math.nan if (weight := example_weight(cell)) is None else weight for cell in cells], dtype=np.float64)
    wrong = np.flatnonzero(np.isnan(weights)).tolist()
    if wrong:
        raise DataError(
            f"{table.spec}, {table.where(wrong[:1])}: the weight {cells[wrong[0]]!r} is no number of at least 0"
            f"{_first_of(len(wrong))}; write one such as 0.5."
        )
    if not weights.any():
        raise DataError(f"{table.spec}: all weights are 0, so there is nothing to learn from; remove the column, or write 1.")
    return weights


def example_weight(cell: str) -> float | None:
    """The weight of an example as a table spells it; None where that is no finite number of at least 0."""
    try:
        weight = float(cell)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight >= 0 else None
