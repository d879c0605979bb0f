"""Rows of another dataset that join every training batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from holdfast.data.run_data import RunData
from holdfast.types import Batch

__all__ = ["Companion", "join"]


@dataclass(frozen=True)
class Companion:
    """A dataset that is read on and on beside the training data, its epochs as long as itself.

    Args:
        data: The dataset; its training split is read.
    """

    data: RunData

    def batches(
        self, *, step: int, seed: int, batch_size: int, accumulate: int, rank: int, size: int, device: torch.device | str
    ) -> Iterator[Batch]:
        """Endless micro-batches from optimizer step ``step`` on; what they are is a function of (seed, step) alone.

        Args:
            step: 0-based optimizer step of the run.
            seed: Seed of the run.
            batch_size: Rows per step, over all ranks and micro-batches.
            accumulate: Micro-batches per step.
            rank: This rank.
            size: Number of ranks.
            device: Where the batches go.
        """
        epoch, start = divmod(step, self.data.steps_per_epoch(batch_size))
        while True:
            yield from self.data.train_batches(
                epoch=epoch,
                seed=seed,
                batch_size=batch_size,
                accumulate=accumulate,
                rank=rank,
                size=size,
                start_step=start,
                device=device,
            )
            epoch, start = epoch + 1, 0


def join(batches: Iterable[Batch], companions: Mapping[str, Iterator[Batch]]) -> Iterator[Batch]:
    """Give each batch the next one of every companion."""
    for batch in batches:
        yield dataclasses.replace(batch, extra={name: next(rows) for name, rows in companions.items()}) if companions else batch
