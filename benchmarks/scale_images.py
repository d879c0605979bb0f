"""What listing and ordering images in tar shards costs, in processor time for each of them."""

from __future__ import annotations

import io
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from holdfast.data.keyed import example_keys
from holdfast.data.order import uniform_order, windowed_order
from holdfast.data.shards import read_shards

__all__ = ["image_rows"]

T = TypeVar("T")

_A_SHARD = 1000
_BYTES = 2048
"""Of an image, which listing skips: a shard of real images has larger gaps between its headers."""


def image_rows(folder: Path, images: int) -> list[dict[str, object]]:
    """Microseconds an image: first listing, second listing from the indexes, and the order of an epoch both ways."""
    write_shards(folder, images)
    spec = f"wds:{folder}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, source = timed(lambda: read_shards(spec))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    second, _ = timed(lambda: read_shards(spec))
    rows = np.arange(images)
    keyed, keys = timed(lambda: example_keys(source.listing.ids))
    places = np.stack([source.shards, source.offsets], axis=1)
    uniform, _ = timed(lambda: uniform_order(rows, keys, seed=0, epoch=0))
    windowed, _ = timed(lambda: windowed_order(rows, keys, places, seed=0, epoch=0))
    spent = {"headers": first, "index": second, "keys, once": keyed, "uniform order": uniform, "windowed order": windowed}
    shared = {"table": "images", "images": images}
    index = sum(file.stat().st_size for file in folder.glob("*.json"))
    taken = {name: (round(1e6 * time / images, 2), "us an image") for name, time in spent.items()}
    taken |= {"index on disk": (index // images, "bytes an image"), "listing in memory": (grown // images, "bytes an image")}
    return [{**shared, "what": name, "number": number, "unit": unit} for name, (number, unit) in taken.items()]


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds of a call, and what it gave."""
    began = time.process_time()
    given = call()
    return time.process_time() - began, given


def write_shards(folder: Path, images: int) -> None:
    """Shards of as many members as real ones have, full of zeros."""
    for start in range(0, images, _A_SHARD):
        with tarfile.open(folder / f"train-{start // _A_SHARD:06d}.tar", "w") as archive:
            for number in range(start, min(start + _A_SHARD, images)):
                for kind, data in (("jpg", bytes(_BYTES)), ("cls", str(number * 7919 % 1000).encode())):
                    info = tarfile.TarInfo(f"{number:08d}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
