"""Tar archives in the form of WebDataset, written member by member."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def png(seed: int) -> bytes:
    """A small image of noise."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (18 + seed % 5, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """An archive of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_shard(path: Path, labels: Mapping[str, str]) -> Path:
    """An archive of an image and a ``.cls`` for each key; images of other keys and shards differ."""
    seed = sum(path.as_posix().encode()[-12:]) * 1000
    members: dict[str, bytes | str] = {}
    for number, (key, label) in enumerate(labels.items()):
        members |= {f"{key}.png": png(seed + number), f"{key}.cls": label}
    return write_tar(path, members)
