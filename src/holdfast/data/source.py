"""Where examples come from: a listing of ids, labels and given splits, and the bytes behind each id, of an image or a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from holdfast.errors import DataError

__all__ = ["AllTrained", "DataSource", "FloatArray", "IntArray", "Listing", "is_remote", "list_some", "read_bytes"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Listing:
    """All examples of a dataset before any split is cut, in sorted order of their ids.

    Args:
        ids: Id of each example; of an image a POSIX path relative to the data root, unless a table brings ids of its own.
        labels: Class (N,) of each example, a position in ``classes``.
        classes: Names of the classes, sorted; those that have no example too.
        given: The split each example stands in, or None where the dataset has no splits.
        weights: Weight (N,) of each example in the task loss, above or equal to 0, or None where all count the same.
        columns: Further columns of a table by name, one text an example; ``--group-by`` may name one. ``path`` is among them where a
            table brings ids of its own.
        unit: What an example is called: ``image`` or ``text``.
        places: Shard and place in it (N, 2) of each example, where there is so much data that it is read shard after shard; None where any
            order will do.
    """

    ids: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    given: tuple[str, ...] | None
    weights: FloatArray | None = None
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: str = "image"
    places: IntArray | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        names: Sequence[str],
        *,
        classes: Iterable[str] = (),
        given: Sequence[str] | None = None,
        weights: FloatArray | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        unit: str = "image",
    ) -> Listing:
        """The listing of examples (N) in any order.

        Args:
            ids: As above, unsorted.
            names: Name of the class of each example.
            classes: Names of classes that may have no example.
            given: As above, unsorted, and so are ``weights`` and ``columns``.
            weights: As above.
            columns: As above.
            unit: As above.
        """
        order = sorted(range(len(ids)), key=ids.__getitem__)
        every_class = tuple(sorted({*classes, *names}))
        label_of = {name: label for label, name in enumerate(every_class)}
        unsorted = cls(
            ids=tuple(ids),
            labels=np.array([label_of[name] for name in names], dtype=np.int64),
            classes=every_class,
            given=None if given is None else tuple(given),
            weights=weights,
            columns={name: tuple(cells) for name, cells in (columns or {}).items()},
            unit=unit,
        )
        return unsorted.take(np.array(order, dtype=np.int64))

    @property
    def given_splits(self) -> tuple[str, ...]:
        """Names of the splits that hold examples."""
        return tuple(sorted(set(self.given or ())))

    def take(self, rows: IntArray) -> Listing:
        """The listing of some of the examples, in the order of ``rows``; the classes stay."""
        return Listing(
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[rows],
            classes=self.classes,
            given=None if self.given is None else tuple(self.given[row] for row in rows),
            weights=None if self.weights is None else self.weights[rows],
            columns={name: tuple(texts[row] for row in rows) for name, texts in self.columns.items()},
            unit=self.unit,
            places=None if self.places is None else self.places[rows],
        )


class DataSource(Protocol):
    """A dataset of files or texts, on disk or made in memory. Picklable, since worker processes read through it."""

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
        """The file behind an id; of a text its UTF-8."""

    def size(self, image: str) -> int:
        """Bytes of that file; 0 where it cannot be told."""


@dataclass(frozen=True)
class AllTrained:
    """A dataset of which all is trained on: where splits are given, the examples of train, else every one."""

    source: DataSource

    @property
    def spec(self) -> str:
        """The dataset as the user named it."""
        return self.source.spec

    @property
    def root(self) -> Path | None:
        """The folder that ids are relative to, where there is one."""
        return self.source.root

    @property
    def listing(self) -> Listing:
        """What there is to train on."""
        listing = self.source.listing
        kept = [row for row in range(len(listing.ids)) if listing.given is None or listing.given[row] == "train"]
        ids, places = tuple(listing.ids[row] for row in kept), None if listing.places is None else listing.places[kept]
        return Listing(ids, listing.labels[kept], listing.classes, ("train",) * len(kept), unit=listing.unit, places=places)

    def open(self, image: str) -> BinaryIO:
        """The file behind an id."""
        return self.source.open(image)

    def size(self, image: str) -> int:
        """Bytes of that file; 0 where it cannot be told."""
        return self.source.size(image)


def is_remote(source: DataSource) -> bool:
    """Whether each read waits for a server, so that several at the same time are worth while."""
    return bool(getattr(source.source if isinstance(source, AllTrained) else source, "remote", False))


def read_bytes(source: DataSource, image: str) -> bytes:
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
