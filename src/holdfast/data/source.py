"""Where images come from: a listing of ids, labels and given splits, and the bytes behind each id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from holdfast.errors import DataError

__all__ = ["ImageSource", "IntArray", "Listing", "list_some", "read_bytes"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """All images of a dataset before any split is cut, in sorted order of their ids.

    Args:
        ids: Id of each image; a POSIX path relative to the data root.
        labels: Class (N,) of each image, a position in ``classes``.
        classes: Names of the classes, sorted; those that have no image too.
        given: The split each image stands in, or None where the dataset has no splits.
    """

    ids: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    given: tuple[str, ...] | None

    @property
    def given_splits(self) -> tuple[str, ...]:
        """Names of the splits that hold images."""
        return tuple(sorted(set(self.given or ())))


class ImageSource(Protocol):
    """A dataset of image files, real or made in memory. Picklable, since worker processes read through it."""

    @property
    def spec(self) -> str:
        """The dataset as the user named it."""

    @property
    def root(self) -> Path | None:
        """The folder that ids are relative to, where there is one."""

    @property
    def listing(self) -> Listing:
        """What there is."""

    def open(self, image: str) -> BinaryIO:
        """The file behind an id."""

    def size(self, image: str) -> int:
        """Bytes of that file; 0 where it cannot be told."""


def read_bytes(source: ImageSource, image: str) -> bytes:
    """The bytes behind an id.

    Raises:
        DataError: They cannot be read; the message is the bare reason.
    """
    try:
        with source.open(image) as file:
            return file.read()
    except PermissionError:
        raise DataError("no read permission") from None
    except OSError as error:
        raise DataError((error.strerror or str(error)).lower()) from None


def list_some(names: Sequence[str], limit: int = 10) -> str:
    """The first names of a list, and how many more there are.

    Example:
        >>> list_some(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
