"""``--train-list``: a text file that names the training images to use."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from holdfast.data.source import Listing, list_some
from holdfast.errors import DataError

__all__ = ["read_train_list"]


def read_train_list(file: str, spec: str, root: Path | None, listing: Listing) -> npt.NDArray[np.bool_]:
    """Which images of a dataset a list names.

    One path or id a line, paths relative to the data root; blank lines, lines that start with ``#``, ``./``, backslashes and Windows
    line ends are understood.

    Args:
        file: The list; looked up in the working directory, then in the data root. An absolute path is taken as it is.
        spec: The dataset as the user named it.
        root: Its folder, where it has one.
        listing: Its images.

    Returns:
        Mask (N,) over the images of the listing.

    Raises:
        DataError: The list is missing, is empty, or names images that the dataset or its train split lacks.
    """
    path = _locate(file, root)
    # A table with ids of its own keeps the paths beside them.
    rows = {name: row for names in (listing.columns.get("path", ()), listing.ids) for row, name in enumerate(names)}
    named: dict[str, int | None] = {}
    for line in _lines(path, file, rows):
        named[line] = next((rows[spelled] for spelled in _spellings(line, root) if spelled in rows), None)
    if not named:
        raise DataError(f"--train-list {file}: the list names no {listing.unit}; expected one path a line, relative to {spec}.")
    unknown = [line for line, row in named.items() if row is None]
    _refuse(file, unknown, f"not in {spec}", listing.unit)
    listed = np.zeros(len(listing.ids), dtype=bool)
    listed[[row for row in named.values() if row is not None]] = True
    if listing.given is not None:
        elsewhere = [listing.ids[row] for row in np.flatnonzero(listed) if listing.given[row] != "train"]
        _refuse(file, elsewhere, "outside the train split", listing.unit)
    return listed


def _refuse(file: str, names: list[str], why: str, unit: str) -> None:
    if names:
        examples = f"{'an' if unit == 'image' else 'a'} {unit}" if len(names) == 1 else f"{len(names)} {unit}s"
        raise DataError(f"--train-list {file}: the list names {examples} {why}: {list_some(names, 5)}.")


def _locate(file: str, root: Path | None) -> Path:
    # Joining an absolute path to a folder gives that path, so both places agree on it.
    places = [Path(file), *([root / file] if root is not None else [])]
    for place in places:
        if place.is_file():
            return place
    if any(place.is_dir() for place in places):
        raise DataError(f"--train-list {file}: this is a folder; expected a text file with one path a line.")
    where = "there" if Path(file).is_absolute() or root is None else f"in the working directory or in {root}"
    raise DataError(f"--train-list {file}: there is no such file {where}.")


def _lines(path: Path, file: str, rows: dict[str, int]) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"--train-list {file}: this is not a text file in UTF-8; expected one path a line.") from None
    except OSError as error:
        raise DataError(f"--train-list {file}: the list cannot be read ({error.strerror}).") from None
    for line in text.split("\n"):
        stripped = line.removesuffix("\r")
        if stripped in rows:  # even where the name itself begins with '#' or ends in a blank
            yield stripped
        elif stripped.strip() and not stripped.lstrip().startswith("#"):
            yield stripped.strip()


def _spellings(line: str, root: Path | None) -> Iterator[str]:
    """Ids that a line may mean, the literal one first."""
    yield line
    plain = posixpath.normpath(line.replace("\\", "/"))
    yield plain
    if root is not None and posixpath.isabs(plain):
        yield posixpath.relpath(plain, root.resolve().as_posix())
