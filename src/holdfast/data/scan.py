"""The one pass over all image files before training: hash, decode, and keep what fits in memory."""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from holdfast.data.decode import check_header, decode_rgb
from holdfast.data.memory import PixelCache
from holdfast.data.source import DataSource, is_remote, read_bytes
from holdfast.data.views import Kind, Pixels, prepare
from holdfast.errors import DataError

__all__ = ["DECODE_LIMIT", "HASH_LIMIT", "Scanner", "unreadable_message"]

log = logging.getLogger("holdfast")

DECODE_LIMIT = 100_000
"""Images up to which each is decoded; of more, only the headers are checked, and a bad image stops the run when it is met."""

HASH_LIMIT = 10 * 10**9
"""Bytes up to which the fingerprint is over the content of the files; beyond, it is over their sizes."""

_CHUNK = 256


@dataclass(frozen=True)
class _ScanPlan:
    """What a scan does with each file."""

    decode: bool
    hash_bytes: bool
    check_headers: bool


class _Read(NamedTuple):
    image: str
    kind: Kind
    digest: str
    pixels: Pixels | None
    reason: str | None


class Scanner:
    """Reads each image once.

    Args:
        source: The dataset.
        size: Side of the input.
        cache: Takes the prepared images.
        threads: How many files are read at the same time.
        decode_all: Whether images are decoded however many there are.
    """

    def __init__(self, source: DataSource, size: int, cache: PixelCache, threads: int, *, decode_all: bool) -> None:
        self.digests: dict[str, str] = {}
        self._source = source
        self._size = size
        self._cache = cache
        self._threads = threads
        self._decode_all = decode_all
        self._plan: _ScanPlan | None = None

    @property
    def over(self) -> str:
        """What the digests are of: ``bytes`` or ``size``."""
        return "size" if self._plan is not None and not self._plan.hash_bytes else "bytes"

    def scan(self, wanted: Mapping[str, Kind]) -> dict[str, str]:
        """Read what has not been read before.

        Args:
            wanted: How far to prepare each image, by id.

        Returns:
            The reason why an image cannot be read, by id.
        """
        plan = self._plan = self._plan or self._make_plan(wanted)
        todo = [
            (image, kind)
            for image, kind in wanted.items()
            if image not in self.digests or (self._cache.active and not self._cache.has(image, kind))
        ]
        if not todo:
            return {}
        began = time.perf_counter()
        bad: dict[str, str] = {}
        pairs = iter(todo)
        with ThreadPoolExecutor(self._threads) as pool:
            # In chunks, so that decoded images cannot pile up behind a slow one.
            while chunk := list(itertools.islice(pairs, _CHUNK)):
                for read in pool.map(lambda pair: self._read(pair[0], pair[1], plan), chunk):
                    self._take(read, bad)
        log.info("read %d images in %.1f s", len(todo), time.perf_counter() - began)
        return bad

    def _make_plan(self, wanted: Mapping[str, Kind]) -> _ScanPlan:
        decode = self._decode_all or len(wanted) <= DECODE_LIMIT
        if not decode:
            self._cache.active = False
            checked = "nothing in them is" if is_remote(self._source) else "only their headers are"
            log.info("more than %d images: %s checked now", DECODE_LIMIT, checked)
        return _ScanPlan(decode, sum(map(self._source.size, wanted)) <= HASH_LIMIT, not is_remote(self._source))

    def _take(self, read: _Read, bad: dict[str, str]) -> None:
        if read.reason is not None:
            bad[read.image] = read.reason
            return
        self.digests[read.image] = read.digest
        if read.pixels is not None:
            self._cache.keep(read.image, read.kind, read.pixels)

    def _read(self, image: str, kind: Kind, plan: _ScanPlan) -> _Read:
        """Runs in a thread: Pillow and hashlib release the interpreter while they work."""
        try:
            digest = "" if plan.hash_bytes else str(self._source.size(image))
            pixels = None
            if plan.hash_bytes or plan.decode:
                data = read_bytes(self._source, image)
                digest = digest or hashlib.sha256(data).hexdigest()
                if plan.decode:
                    decoded = decode_rgb(data)
                    pixels = prepare(decoded, kind, self._size) if self._cache.active else None
                else:
                    check_header(io.BytesIO(data))
            elif plan.check_headers:
                with self._source.open(image) as file:
                    check_header(file)
        except (DataError, OSError) as error:
            return _Read(image, kind, "", None, str(error))
        return _Read(image, kind, digest, pixels, None)


def unreadable_message(spec: str, bad: Mapping[str, str], total: int, unit: str = "image") -> str:
    """One sentence that names the first unreadable examples, each with its reason, and the way out."""
    named = [f"{image} ({reason})" for image, reason in sorted(bad.items())]
    more = f" and {len(named) - 10} more" if len(named) > 10 else ""
    listed = "; ".join(named[:10]) + more
    return f"{spec}: {len(named)} of {total} {unit}s cannot be read: {listed}. Replace them, or type --skip-bad to go on without them."
