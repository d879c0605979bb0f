"""How much memory prepared images may take."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

from holdfast.data.views import Kind, Pixels

__all__ = ["PixelCache", "available_memory", "cache_budget", "cpu_count"]

_SHARE = 0.25
"""Share of the available memory that ``--cache auto`` may fill, over all ranks of a machine."""

_CGROUP = Path("/sys/fs/cgroup")


def cache_budget(cache: str) -> float:
    """Bytes that may be kept under ``--cache``: none, all, or a quarter of the memory that is available to this rank."""
    if cache == "auto":
        return _SHARE * available_memory() / _local_ranks()
    return math.inf if cache == "memory" else 0.0


def available_memory() -> int:
    """Bytes that this process can still take: what the machine has left, or the container it runs in, if that is less."""
    left = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container of this kind, or one without a limit
        return left
    return max(0, min(left, limit - used))


def cpu_count() -> int:
    """Processors that this process may use, its share where several ranks run on the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // _local_ranks())


def _local_ranks() -> int:
    """Ranks on this machine, as torchrun or SLURM tells."""
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        if os.environ.get(name, "").isdecimal():
            return max(1, int(os.environ[name]))
    return 1


class PixelCache:
    """Prepared images by id, given up as a whole when they outgrow the budget."""

    def __init__(self, budget: float) -> None:
        self.active = budget > 0
        self._left = budget
        self._kept: dict[str, tuple[Kind, Pixels]] = {}

    def has(self, image: str, kind: Kind) -> bool:
        """Whether an image is kept, prepared this far."""
        return image in self._kept and self._kept[image][0] == kind

    def keep(self, image: str, kind: Kind, pixels: Pixels) -> None:
        """Keep an image, or give up all where it is one too many."""
        if not self.active:
            return
        self._left -= pixels.nbytes
        if self._left < 0:
            self._kept.clear()
            self.active = False
        else:
            self._kept[image] = (kind, pixels)

    @property
    def nbytes(self) -> int:
        """Bytes of the kept images."""
        return sum(pixels.nbytes for _, pixels in self._kept.values())

    def pixels(self, image: str) -> Pixels:
        """The prepared pixels of a kept image."""
        return self._kept[image][1]
