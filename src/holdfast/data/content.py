"""One number for all that a dataset holds, before any split is cut from it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from holdfast.data.memory import cpu_count
from holdfast.data.opening import open_source
from holdfast.data.scan import HASH_LIMIT
from holdfast.data.source import DataSource, read_bytes
from holdfast.errors import DataError

__all__ = ["content_fingerprint"]

_MOST_THREADS = 8


def content_fingerprint(spec: str, *, test_split: str | None = None) -> str:
    """SHA-256 over the examples of a dataset: ids, labels, given splits, columns but paths, and bytes (sizes above 10 GB).

    Where the dataset lies does not enter, and neither does what is cut from it. A file that cannot be read counts as such.

    Args:
        spec: DATA.
        test_split: As ``--test-split``.

    Raises:
        DataError: There is no such dataset, or it cannot be used.
    """
    source = open_source(spec, test_split=test_split)
    listing = source.listing
    columns = {name: texts for name, texts in sorted(listing.columns.items()) if name != "path"}
    total = hashlib.sha256("\t".join((listing.unit, *listing.classes, "", *columns)).encode())
    for row, (name, digest) in enumerate(zip(listing.ids, _digests(source), strict=True)):
        given = "" if listing.given is None else listing.given[row]
        weight = "" if listing.weights is None else repr(float(listing.weights[row]))
        cells = (name, str(int(listing.labels[row])), given, weight, digest, *(texts[row] for texts in columns.values()))
        total.update(("\n" + "\t".join(cells)).encode())
    return total.hexdigest()


def _digests(source: DataSource) -> list[str]:
    ids = source.listing.ids
    if sum(map(source.size, ids)) > HASH_LIMIT:
        return [str(source.size(name)) for name in ids]
    with ThreadPoolExecutor(min(_MOST_THREADS, cpu_count())) as pool:
        return list(pool.map(lambda name: _digest(source, name), ids))


def _digest(source: DataSource, name: str) -> str:
    try:
        return hashlib.sha256(read_bytes(source, name)).hexdigest()
    except DataError as error:
        return f"unreadable: {error}"
