"""Which examples meet in which batch: a function of (seed, epoch), cut into ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.data.keyed import KeyArray, permutation
from holdfast.data.source import IntArray
from holdfast.errors import ConfigError

__all__ = ["batches_of", "effective_batch_size", "shard", "steps_per_epoch", "train_rows"]


def effective_batch_size(examples: int, batch_size: int) -> int:
    """Examples per step: all of them where there are fewer than a batch."""
    return min(batch_size, examples)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches of an epoch; the incomplete last one is dropped unless it is the only one."""
    return examples // effective_batch_size(examples, batch_size)


def train_rows(
    rows: IntArray, keys: KeyArray, *, seed: int, epoch: int, batch_size: int, accumulate: int, rank: int, size: int, start_step: int
) -> Iterator[IntArray]:
    """The micro-batches of a rank, step after step.

    Rank r owns the contiguous slice ``[r * B / size, (r + 1) * B / size)`` of a global batch, cut into ``accumulate`` contiguous parts.

    Args:
        rows: The training examples (N,).
        keys: Their keys (N,).
        seed: Seed of the run.
        epoch: 0-based epoch.
        batch_size: Examples per step over all ranks.
        accumulate: Micro-batches per step.
        rank: This rank.
        size: Number of ranks.
        start_step: Steps to leave out.

    Raises:
        ConfigError: Ranks times micro-batches do not divide the batch.
    """
    batch = effective_batch_size(len(rows), batch_size)
    micro, rest = divmod(batch, size * accumulate)
    if rest or not micro:
        few = f", and there are only {len(rows)} training images" if batch < batch_size else ""
        raise ConfigError(
            f"--batch-size {batch_size}{few}: a batch of {batch} cannot be divided among {size} rank(s) x {accumulate} micro-batch(es); "
            f"choose a multiple of {size * accumulate}."
        )
    order = rows[permutation("order", seed, epoch, keys)]
    starts = (
        step * batch + (rank * accumulate + part) * micro for step in range(start_step, len(rows) // batch) for part in range(accumulate)
    )
    return (order[start : start + micro] for start in starts)


def shard(rows: IntArray, rank: int, size: int) -> IntArray:
    """This rank's contiguous part; parts differ by one at most and may be empty."""
    return rows[rank * len(rows) // size : (rank + 1) * len(rows) // size]


def batches_of(rows: IntArray, batch_size: int) -> list[IntArray]:
    """Consecutive parts of at most ``batch_size``."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
