"""Timing two things against each other on a machine that is busy with others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

__all__ = ["Ratio", "interleave", "seconds"]


class Ratio(NamedTuple):
    """Median over blocks of the ratio of medians, the least and largest block, and the base's median seconds."""

    ratio: float
    low: float
    high: float
    base_seconds: float


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def interleave(
    base: Callable[[], object],
    other: Callable[[], object],
    device: torch.device,
    *,
    steps: int,
    blocks: int,
    warmup: int = 3,
    typical: Callable[[Iterable[float]], float] = statistics.median,
) -> Ratio:
    """Time two calls in turn, ``steps`` times in each of ``blocks`` blocks.

    A slow moment of the machine then hits both; which goes first alternates. ``typical`` sums up the times of a block: the median, unless
    some steps do what others do not.
    """
    for _ in range(warmup):
        base()
        other()
    ratios, bases = [], []
    for _ in range(blocks):
        pairs = []
        for step in range(steps):
            if step % 2:
                second, first = seconds(other, device), seconds(base, device)
            else:
                first, second = seconds(base, device), seconds(other, device)
            pairs.append((first, second))
        first_times, second_times = zip(*pairs, strict=True)
        ratios.append(typical(second_times) / typical(first_times))
        bases.append(typical(first_times))
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), statistics.median(bases))
