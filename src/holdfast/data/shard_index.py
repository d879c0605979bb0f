"""The index of a shard, made once and kept beside it as ``SHARD.index.json``, or in a cache folder where that cannot be written."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.data.file_systems import FileStat, is_local, open_url, stat
from holdfast.data.shard_members import ShardIndex, index_tar

__all__ = ["cache_folder", "shard_index"]

log = logging.getLogger("holdfast")

_SCHEMA = 1
_COLUMNS = {"keys": str, "offsets": int, "sizes": int, "labels": str}


def shard_index(url: str) -> ShardIndex:
    """The index of a shard: what was kept, where the shard is still the same, else what its headers say now.

    Raises:
        DataError: The shard is damaged; the message is the bare reason.
        OSError: It cannot be read.
    """
    now = stat(url)
    for place in _places(url):
        index = _read(place, now)
        if index is not None:
            return index
    with open_url(url) as file:
        index = index_tar(file)
    _keep(url, index, now)
    return index


def cache_folder() -> Path:
    """Where indexes go whose shards lie where nothing can be written: ``$HOLDFAST_CACHE``, or the user's folder of caches."""
    own = os.environ.get("HOLDFAST_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast"


def _places(url: str) -> Iterator[str]:
    """Where an index may be, in the order it is looked for."""
    yield f"{url}.index.json"
    yield str(cache_folder() / "shards" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.index.json")


def _read(place: str, now: FileStat) -> ShardIndex | None:
    """The index in a file, None where there is none, or it is of another state of the shard or damaged."""
    try:
        with open_url(place) as file:
            record: Any = json.loads(file.read())
        if record["schema"] != _SCHEMA or FileStat(record["size"], record["stamp"]) != now:
            return None
        columns = [tuple(record[name]) for name in _COLUMNS]
        sound = all(isinstance(cell, kind) for column, kind in zip(columns, _COLUMNS.values(), strict=True) for cell in column)
        sound &= len(set(map(len, columns))) == 1 and record["unit"] in ("image", "text")
        return ShardIndex(record["unit"], *columns) if sound else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(url: str, index: ShardIndex, now: FileStat) -> None:
    columns = {name: getattr(index, name) for name in _COLUMNS}
    record = {"schema": _SCHEMA, "size": now.size, "stamp": now.stamp, "unit": index.unit, **columns}
    beside, cached = map(Path, _places(url))
    for place in (beside, cached) if is_local(url) else (cached,):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.with_name(f".{place.name}.{os.getpid()}")  # ranks may write the same index at the same time
            try:
                temporary.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
                os.replace(temporary, place)
            finally:
                with suppress(OSError):
                    temporary.unlink()
            return
        except OSError:
            continue
    log.info("%s: its index cannot be kept, so it is made anew each time", url)
