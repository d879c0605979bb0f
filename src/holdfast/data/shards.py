"""``wds:PATTERN``: examples in tar archives, each found by an index without reading what lies before it."""

from __future__ import annotations

import bisect
import itertools
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from holdfast.data import scan
from holdfast.data.file_systems import is_local, open_part, reason
from holdfast.data.shard_classes import read_class_names
from holdfast.data.shard_index import shard_index
from holdfast.data.shard_members import ShardIndex
from holdfast.data.shard_names import Shard, find_shards
from holdfast.data.source import IntArray, Listing, list_some
from holdfast.errors import DataError

__all__ = ["ShardSource", "read_shards"]

log = logging.getLogger("holdfast")

_THREADS = 16
"""Shards that are indexed at the same time; most of that is waiting for the disk or a server."""


@dataclass(frozen=True)
class ShardSource:
    """Images or texts in shards.

    Args:
        spec: The dataset as the user named it.
        root: The folder that holds all shards, where they are on this machine.
        listing: What there is; ids are ``SHARD/KEY``.
        urls: The shards.
        shards: Shard (N,) of each example of the listing.
        offsets: Where each begins in it.
        sizes: Bytes of each.
    """

    spec: str
    root: Path | None
    listing: Listing
    urls: tuple[str, ...]
    shards: IntArray
    offsets: IntArray
    sizes: IntArray

    @property
    def remote(self) -> bool:
        """Whether each read is a request to a server."""
        return self.root is None

    def open(self, image: str) -> BinaryIO:
        """The image or text of an id."""
        row = self._row(image)
        return open_part(self.urls[self.shards[row]], int(self.offsets[row]), int(self.sizes[row]))

    def size(self, image: str) -> int:
        """Bytes of that."""
        return int(self.sizes[self._row(image)])

    def _row(self, image: str) -> int:
        return bisect.bisect_left(self.listing.ids, image)


def read_shards(spec: str, *, test_split: str | None = None) -> ShardSource:
    """List the examples of all shards of a pattern; of those without an index the headers are read once.

    The label is the text of a member ``.cls`` or the field ``label`` of a ``.json``: a name, or the number of a line of ``classes.txt``
    or of an entry of ``classes.json`` beside the shards. Without these files the classes are the labels that are found.

    Args:
        spec: ``wds:PATTERN`` or ``wds:FOLDER``.
        test_split: A further name that means a split.

    Raises:
        DataError: A shard is missing or damaged, or an example lacks its label; the message names the shard.
        DependencyError: The package that reads such URLs is not installed.
    """
    root, shards = find_shards(spec, test_split=test_split)
    indexes = _indexes(spec, shards)
    units = {index.unit for index in indexes}
    if len(units) > 1:
        first = {index.unit: shard.name for shard, index in zip(shards, indexes, strict=True)}
        raise DataError(f"{spec}: {first['image']!r} holds images and {first['text']!r} texts; give one of the two kinds.")
    return _source(spec, root, shards, indexes)


def _source(spec: str, root: str, shards: Sequence[Shard], indexes: Sequence[ShardIndex]) -> ShardSource:
    ids = [f"{shard.name}/{key}" for shard, index in zip(shards, indexes, strict=True) for key in index.keys]
    labels = [label for index in indexes for label in index.labels]
    shard_of = [shard for shard, index in zip(shards, indexes, strict=True) for _ in index.keys]
    of = np.repeat(np.arange(len(shards)), [len(index.keys) for index in indexes])
    offsets, sizes = (np.array(list(itertools.chain(*columns))) for columns in zip(*((i.offsets, i.sizes) for i in indexes), strict=True))
    declared = read_class_names(spec, root)
    names = labels if declared is None else declared.named(spec, labels, [shard.name for shard in shard_of])
    given = [shard.split for shard in shard_of] if shards[0].split else None
    listing = Listing.of(ids, names, classes=declared.names if declared else (), given=given, unit=indexes[0].unit)
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
    of, offsets, sizes = of[order], offsets[order], sizes[order]
    if sizes.sum() > scan.HASH_LIMIT:
        listing = replace(listing, places=np.stack([of, offsets], axis=1))
        _warn_of_sorted_shards(spec, listing)
    local = Path(root) if is_local(root) else None
    return ShardSource(spec, local, listing, tuple(shard.url for shard in shards), of, offsets, sizes)


def _indexes(spec: str, shards: Sequence[Shard]) -> list[ShardIndex]:
    def index(shard: Shard) -> ShardIndex | str:
        try:
            return shard_index(shard.url)
        except FileNotFoundError:
            return "missing"
        except DataError as error:
            return f"the shard {shard.url!r} cannot be used: {error}."
        except OSError as error:
            return f"the shard {shard.url!r} cannot be read ({reason(error)})."

    began = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(index, shards))
    missing = [shard.url for shard, result in zip(shards, found, strict=True) if result == "missing"]
    if missing:
        of = f"the shard {missing[0]!r}" if len(shards) == 1 else f"{len(missing)} of {len(shards)} shards ({list_some(missing, 3)})"
        raise DataError(f"{spec}: {of} cannot be found; check the pattern.")
    wrong = next((result for result in found if isinstance(result, str)), None)
    if wrong is not None:
        raise DataError(f"{spec}: {wrong}")
    indexes = [result for result in found if isinstance(result, ShardIndex)]
    examples = sum(len(index.keys) for index in indexes)
    log.info("%s: %d examples in %d shards, listed in %.1f s", spec, examples, len(shards), time.perf_counter() - began)
    return indexes


def _warn_of_sorted_shards(spec: str, listing: Listing) -> None:
    """Say it where shards hold few of the classes: an order that goes from shard to shard then shows them one after the other."""
    assert listing.places is not None
    shards, classes = listing.places[:, 0], len(listing.classes)
    here = np.bincount(np.unique(shards * classes + listing.labels) // classes)
    examples = np.bincount(shards)
    mixed = classes * -np.expm1(examples * np.log1p(-1 / max(classes, 2)))
    if here.sum() < 0.5 * np.minimum(mixed, examples).sum():
        log.warning(
            "%s: a shard holds %.0f of the %d classes on average, so batches are less mixed than they should be; write the shards anew, in "
            "a shuffled order",
            spec,
            here.mean(),
            classes,
        )
