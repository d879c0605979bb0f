"""How processes share a machine: how many there are, and which device and how many threads each has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Share", "share_out"]

CPUS_EACH = 2
MOST = 8
"""Processes on CPUs by default; more are better asked for, since each has its own copy of the data."""


@dataclass(frozen=True)
class Share:
    """What the processes get.

    Args:
        workers: How many there are.
        devices: ``CUDA_VISIBLE_DEVICES`` of each in turn; empty on CPUs, or where the user has chosen a device.
        threads: Threads of CPU arithmetic of a run, where the comparison decides about them.
        words: The device, for people.
    """

    workers: int
    devices: tuple[str, ...]
    threads: int | None
    words: str


def share_out(device: str, *, workers: int | None, threads: int | None, runs: int) -> Share:
    """Share this machine out.

    Args:
        device: ``--device``.
        workers: ``--workers``, where it was given.
        threads: ``--threads``, where it was given.
        runs: How many runs there are to make; more workers are not started.
    """
    from holdfast.data.memory import cpu_count  # which brings torch with it

    devices = _devices() if device in ("auto", "cuda") else ()
    if devices or device.startswith("cuda"):
        count = min(workers or max(1, len(devices)), runs)
        return Share(max(1, count), devices, threads, f"{len(devices)} GPUs" if len(devices) > 1 else "a GPU")
    cpus = cpu_count()
    count = max(1, min(workers or min(MOST, cpus // CPUS_EACH), runs))
    each = threads or _asked_of_openmp() or max(1, cpus // count)
    return Share(count, (), each, f"the CPU, {each} {'thread' if each == 1 else 'threads'} each")


def share_cluster(device: str, address: str, *, workers: int | None, threads: int | None) -> Share:
    """What each worker of a Ray cluster gets; how many there will be, only the cluster knows, unless it was said.

    Args:
        device: ``--device``.
        address: ``--ray``.
        workers: ``--workers``, where it was given.
        threads: ``--threads``, where it was given.
    """
    each = threads or (1 if device.startswith("cuda") else _asked_of_openmp() or CPUS_EACH)
    many = "" if workers else ", as many at a time as it has room for, which shortens the time"
    return Share(workers or 1, (), each, f"Ray ({address}), {each} {'thread' if each == 1 else 'threads'} each{many}")


def _devices() -> tuple[str, ...]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    visible: Sequence[str] = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count()
    return tuple(visible[:count]) if len(visible) >= count > 0 else tuple(map(str, range(count)))


def _asked_of_openmp() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdigit() and int(text) > 0 else None
