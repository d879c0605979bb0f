"""The images of a run, split, checked and ready to be served in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from holdfast.data import order
from holdfast.data.keyed import KeyArray
from holdfast.data.normalize import Normalizer
from holdfast.data.render import Request
from holdfast.data.source import IntArray
from holdfast.data.splits import SPLITS
from holdfast.errors import DataError, suggest
from holdfast.types import Batch

__all__ = ["ImageData"]


class Fetcher(Protocol):
    """Renders requests in order."""

    def fetch(self, requests: list[Request], *, pin: bool = False, ahead: bool = False) -> Iterator[Tensor]:
        """Pixels (B, 3, S, S), uint8, of each request."""


@dataclass(frozen=True)
class ImageData:
    """The data of a run; made by :func:`holdfast.data.load_data`.

    An example's ``index`` is the rank of its id among all ids of the run.

    Args:
        classes: Class names by label.
        fingerprint: SHA-256 over ids, labels, splits and files.
    """

    classes: tuple[str, ...]
    fingerprint: str
    _ids: tuple[str, ...] = field(repr=False)
    _labels: IntArray = field(repr=False)
    _keys: KeyArray = field(repr=False)
    _rows: Mapping[str, IntArray] = field(repr=False)
    _record: Mapping[str, Any] = field(repr=False)
    _fetcher: Fetcher = field(repr=False)
    _normalizer: Normalizer = field(repr=False)
    _batch_size: int = 64

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        return self.size(split) > 0

    def size(self, split: str) -> int:
        """Examples of ``train``, ``val`` or ``test``; 0 where there is no such split."""
        return len(self._rows_of(split))

    def ids(self, split: str) -> list[str]:
        """Ids of a split, sorted."""
        return [self._ids[row] for row in self._rows_of(split)]

    def labels(self, split: str) -> IntArray:
        """Labels (N,) of a split, in the order of :meth:`ids`."""
        return self._labels[self._rows_of(split)]

    def splits_record(self) -> dict[str, Any]:
        """What ``splits.json`` says."""
        ids = {split: self.ids(split) if self.has(split) else None for split in SPLITS}
        return {"schema": 1, "classes": list(self.classes), "fingerprint": self.fingerprint, **ids, **self._record}

    def effective_batch_size(self, batch_size: int) -> int:
        """Examples per step: all training examples where there are fewer than a batch."""
        return order.effective_batch_size(self.size("train"), batch_size)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Optimizer steps of an epoch; the incomplete last batch is dropped unless it is the only one."""
        return order.steps_per_epoch(self.size("train"), batch_size)

    def train_batches(
        self,
        *,
        epoch: int,
        seed: int,
        batch_size: int,
        accumulate: int = 1,
        rank: int = 0,
        size: int = 1,
        start_step: int = 0,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        """This rank's augmented micro-batches of an epoch, step after step.

        The order of examples is a function of (seed, epoch), their augmentation one of (seed, epoch, id).

        Args:
            epoch: 0-based epoch.
            seed: Seed of the run.
            batch_size: Examples per step, over all ranks and micro-batches.
            accumulate: Micro-batches per step.
            rank: This rank; it owns a contiguous slice of each global batch.
            size: Number of ranks.
            start_step: Steps to leave out, unread.
            device: Where the batches go.

        Raises:
            ConfigError: Ranks times micro-batches do not divide the batch.
            DataError: An image cannot be read; the message names it.
        """
        rows = self._rows_of("train")
        parts = order.train_rows(
            rows,
            self._keys[rows],
            seed=seed,
            epoch=epoch,
            batch_size=batch_size,
            accumulate=accumulate,
            rank=rank,
            size=size,
            start_step=start_step,
        )
        return self._serve([Request(part, seed, epoch) for part in parts], torch.device(device))

    def batches(
        self, split: str, *, batch_size: int | None = None, rank: int = 0, size: int = 1, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """This rank's share of a split, un-augmented, in the order of the ids; every example once over all ranks.

        Args:
            split: ``train``, ``val`` or ``test``.
            batch_size: Examples per batch; the training batch size unless given.
            rank: This rank; it owns a contiguous part, which may be empty.
            size: Number of ranks.
            device: Where the batches go.

        Raises:
            DataError: An image cannot be read; the message names it.
        """
        rows = order.shard(self._rows_of(split), rank, size)
        return self._serve([Request(part) for part in order.batches_of(rows, batch_size or self._batch_size)], torch.device(device))

    def _serve(self, requests: list[Request], device: torch.device) -> Iterator[Batch]:
        on_gpu = device.type == "cuda"
        for request, pixels in zip(requests, self._fetcher.fetch(requests, pin=on_gpu, ahead=on_gpu), strict=True):
            labels, index = (torch.from_numpy(values) for values in (self._labels[request.rows], request.rows))
            if on_gpu:
                labels, index = labels.pin_memory(), index.pin_memory()
            yield Batch(
                inputs=self._normalizer(pixels.to(device, non_blocking=True)),
                labels=labels.to(device, non_blocking=True),
                index=index.to(device, non_blocking=True),
            )

    def _rows_of(self, split: str) -> IntArray:
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}. {suggest(split, SPLITS)}")
        return self._rows.get(split, np.zeros(0, dtype=np.int64))
