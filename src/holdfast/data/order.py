"""Which examples meet in which batch: a function of (seed, epoch), cut into ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from holdfast.data.keyed import KeyArray, permutation, uniforms
from holdfast.data.source import IntArray
from holdfast.errors import ConfigError

__all__ = [
    "Shown",
    "balanced_order",
    "batches_of",
    "effective_batch_size",
    "shard",
    "steps_per_epoch",
    "train_parts",
    "uniform_order",
    "windowed_order",
]


WINDOW = 16_384
"""Examples among which one is drawn where data are read shard after shard."""

_SHARDS_AT_ONCE = 4


class Shown(NamedTuple):
    """Training examples in the order they are shown, and how often each was shown before in the same epoch; both (N,)."""

    rows: IntArray
    repeats: IntArray

    def part(self, start: int, end: int) -> Shown:
        """Those from ``start`` up to ``end``."""
        return Shown(self.rows[start:end], self.repeats[start:end])


def effective_batch_size(examples: int, batch_size: int) -> int:
    """Examples per step: all of them where there are fewer than a batch."""
    return min(batch_size, examples)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches of an epoch; the incomplete last one is dropped unless it is the only one."""
    return examples // effective_batch_size(examples, batch_size)


def uniform_order(rows: IntArray, keys: KeyArray, *, seed: int, epoch: int) -> Shown:
    """Every example once.

    Args:
        rows: The training examples (N,).
        keys: Their keys (N,).
        seed: Seed of the run.
        epoch: 0-based epoch.
    """
    return Shown(rows[permutation("order", seed, epoch, keys)], np.zeros_like(rows))


def windowed_order(rows: IntArray, keys: KeyArray, places: IntArray, *, seed: int, epoch: int) -> Shown:
    """Every example once, shard after shard in an order of their own, and moved at random by no more than a window.

    So the reads of a moment stay within a few shards and go through each from its beginning to its end.

    Args:
        rows: The training examples (N,).
        keys: Their keys (N,).
        places: Shard and place in it (N, 2) of each.
        seed: Seed of the run.
        epoch: 0-based epoch.
    """
    _, shard = np.unique(places[:, 0], return_inverse=True)
    count = int(shard.max()) + 1
    turn = np.argsort(permutation("shard order", seed, epoch, np.arange(count, dtype=np.uint64)))  # of each shard
    line = np.lexsort((places[:, 1], turn[shard]))
    window = max(WINDOW, _SHARDS_AT_ONCE * len(rows) // count)
    # Places and uniform draws are added: an example can pass another only where they are less than a window apart.
    moved = np.arange(len(rows)) + window * uniforms("window", seed, epoch, keys[line], 1)[:, 0]
    return Shown(rows[line[np.argsort(moved, kind="stable")]], np.zeros_like(rows))


def balanced_order(rows: IntArray, keys: KeyArray, labels: IntArray, *, seed: int, epoch: int, length: int) -> Shown:
    """Every class equally often, the examples of each class equally often; neither differs by more than one, in any epoch or in all.

    Each class goes round its examples in an order of its own, and goes on in the next epoch where it stopped. So a class that has fewer
    examples than its share of an epoch repeats them, and one that has more shows them in turn over several epochs.

    Args:
        rows: The training examples (N,).
        keys: Their keys (N,).
        labels: Their classes (N,); a class without examples is left out.
        seed: Seed of the run.
        epoch: 0-based epoch.
        length: How many examples an epoch shows: those of its whole batches.
    """
    order = permutation("balanced order", seed, 0, keys)
    order = order[np.argsort(labels[order], kind="stable")]  # class after class, each in its own random order
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    turn, position = np.divmod(np.arange(epoch * length, (epoch + 1) * length), len(counts))
    before = -(-(epoch * length - position) // len(counts))  # turns that the class had before this epoch
    drawn = Shown(rows[order[starts[position] + turn % counts[position]]], (turn - before) // counts[position])
    shuffle = permutation("order", seed, epoch, np.arange(length, dtype=np.uint64))
    return Shown(drawn.rows[shuffle], drawn.repeats[shuffle])


def train_parts(shown: Shown, *, batch_size: int, accumulate: int, rank: int, size: int, start_step: int) -> Iterator[Shown]:
    """The micro-batches of a rank, step after step.

    Rank r owns the contiguous slice ``[r * B / size, (r + 1) * B / size)`` of a global batch, cut into ``accumulate`` contiguous parts.

    Args:
        shown: An epoch's examples in order; those beyond the last whole batch are left out.
        batch_size: Examples per step over all ranks.
        accumulate: Micro-batches per step.
        rank: This rank.
        size: Number of ranks.
        start_step: Steps to leave out.

    Raises:
        ConfigError: Ranks times micro-batches do not divide the batch.
    """
    examples = len(shown.rows)
    batch = effective_batch_size(examples, batch_size)
    micro, rest = divmod(batch, size * accumulate)
    if rest or not micro:
        few = f", and there are only {examples} training examples" if batch < batch_size else ""
        raise ConfigError(
            f"--batch-size {batch_size}{few}: a batch of {batch} cannot be divided among {size} rank(s) x {accumulate} micro-batch(es); "
            f"choose a multiple of {size * accumulate}."
        )
    starts = (
        step * batch + (rank * accumulate + part) * micro for step in range(start_step, examples // batch) for part in range(accumulate)
    )
    return (shown.part(start, start + micro) for start in starts)


def shard(rows: IntArray, rank: int, size: int) -> IntArray:
    """This rank's contiguous part; parts differ by one at most and may be empty."""
    return rows[rank * len(rows) // size : (rank + 1) * len(rows) // size]


def batches_of(rows: IntArray, batch_size: int) -> list[IntArray]:
    """Consecutive parts of at most ``batch_size``."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
