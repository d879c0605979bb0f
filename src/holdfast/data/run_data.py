"""The examples of a run, images or texts, split, checked and ready to be served in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from holdfast.data import order
from holdfast.data.keyed import KeyArray, permutation
from holdfast.data.request import Request
from holdfast.data.sending import to_device
from holdfast.data.source import FloatArray, IntArray
from holdfast.data.splits import SPLITS
from holdfast.data.weights import example_weights
from holdfast.errors import DataError, suggest
from holdfast.types import Batch

__all__ = ["RunData"]


class Reader(Protocol):
    """Makes the inputs of a network out of examples."""

    def read(self, requests: list[Request], device: torch.device) -> Iterator[Any]:
        """Inputs of each request in order, on the device: images (B, 3, S, S), or token tensors (B, T) by name."""


@dataclass(frozen=True)
class RunData:
    """The data of a run; made by :func:`holdfast.data.load_data`.

    An example's ``index`` is the rank of its id among all ids of the run.

    Args:
        classes: Class names by label.
        fingerprint: SHA-256 over ids, labels, splits and files or texts.
        cached_bytes: Memory of the decoded images or the tokens that are kept.
        unit: What an example is called: ``image`` or ``text``.
    """

    classes: tuple[str, ...]
    fingerprint: str
    _ids: tuple[str, ...] = field(repr=False)
    _labels: IntArray = field(repr=False)
    _keys: KeyArray = field(repr=False)
    _rows: Mapping[str, IntArray] = field(repr=False)
    _record: Mapping[str, Any] = field(repr=False)
    _reader: Reader = field(repr=False)
    _batch_size: int = 64
    _balanced: bool = False
    _weights: FloatArray | None = field(default=None, repr=False)  # of all examples; only those of train are used
    cached_bytes: int = 0
    unit: str = "image"
    _truth: IntArray | None = field(default=None, repr=False)  # true classes of all examples, -1 where they are not known
    _given: IntArray | None = field(default=None, repr=False)  # labels of all examples as the dataset has them, where they were replaced
    _places: IntArray | None = field(default=None, repr=False)  # shard and place in it, where data are read shard after shard

    @property
    def weighted(self) -> bool:
        """Whether training examples count differently in the task loss."""
        return self._weights is not None

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

    def given_labels(self, split: str) -> IntArray:
        """Labels (N,) of a split as the dataset has them, whatever took their place in training."""
        return (self._labels if self._given is None else self._given)[self._rows_of(split)]

    def true_labels(self, split: str) -> IntArray | None:
        """True classes (N,) of a split in the order of :meth:`ids`, -1 where one is not known; None where the data tells none.

        A table tells them in a column ``true_label``. They are for reports alone: training and selection never see them.
        """
        return None if self._truth is None else self._truth[self._rows_of(split)]

    def train_weights(self) -> FloatArray | None:
        """How much each training example (N,) counts where all are seen once, in the order of :meth:`ids`; None where all are equal.

        What balanced sampling does by showing small classes more often is counted too.
        """
        rows = self._rows_of("train")
        own = None if self._weights is None else self._weights[rows]
        return example_weights(self._labels[rows], own, balanced=True, spec="train") if self._balanced else own

    def index(self, split: str) -> IntArray:
        """What ``Batch.index`` holds for the examples (N,) of a split, in the order of :meth:`ids`."""
        return self._rows_of(split)

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
        augmented: bool = True,
        views: int = 0,
    ) -> Iterator[Batch]:
        """This rank's augmented micro-batches of an epoch, step after step.

        The order of examples is a function of (seed, epoch), their augmentation one of (seed, epoch, id, how often the example was shown
        before in the epoch). Where examples count differently, the batches carry their weights.

        Args:
            epoch: 0-based epoch.
            seed: Seed of the run.
            batch_size: Examples per step, over all ranks and micro-batches.
            accumulate: Micro-batches per step.
            rank: This rank; it owns a contiguous slice of each global batch.
            size: Number of ranks.
            start_step: Steps to leave out, unread.
            device: Where the batches go.
            augmented: Whether images are augmented, or shown as in evaluation.
            views: How many further augmented views of each batch.

        Raises:
            ConfigError: Ranks times micro-batches do not divide the batch.
            DataError: An example cannot be read; the message names it.
        """
        shown = self._shown(seed, epoch, batch_size)
        parts = order.train_parts(shown, batch_size=batch_size, accumulate=accumulate, rank=rank, size=size, start_step=start_step)
        if augmented:
            requests = [Request(part.rows, seed, epoch, part.repeats, view) for part in parts for view in range(views + 1)]
        else:
            requests = [Request(part.rows) for part in parts]
        return self._serve(requests, torch.device(device), self._weights, views)

    def _shown(self, seed: int, epoch: int, batch_size: int) -> order.Shown:
        """The training examples of an epoch in order."""
        rows = self._rows_of("train")
        if not self._balanced and self._places is not None:
            return order.windowed_order(rows, self._keys[rows], self._places[rows], seed=seed, epoch=epoch)
        if not self._balanced:
            return order.uniform_order(rows, self._keys[rows], seed=seed, epoch=epoch)
        length = self.steps_per_epoch(batch_size) * self.effective_batch_size(batch_size)
        return order.balanced_order(rows, self._keys[rows], self._labels[rows], seed=seed, epoch=epoch, length=length)

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
            DataError: An example cannot be read; the message names it.
        """
        return self._un_augmented(order.shard(self._rows_of(split), rank, size), batch_size, device)

    def sample(
        self,
        split: str,
        most: int,
        *,
        seed: int,
        batch_size: int | None = None,
        rank: int = 0,
        size: int = 1,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        """As :meth:`batches`, of at most ``most`` examples: all, or those drawn by ``seed``, the same for any number of ranks."""
        rows = self._rows_of(split)
        drawn = np.sort(rows[permutation("sample", seed, 0, self._keys[rows])[:most]])
        return self._un_augmented(order.shard(drawn, rank, size), batch_size, device)

    def _un_augmented(self, rows: IntArray, batch_size: int | None, device: torch.device | str) -> Iterator[Batch]:
        return self._serve([Request(part) for part in order.batches_of(rows, batch_size or self._batch_size)], torch.device(device))

    def restricted(self, classes: Tensor) -> RunData:
        """The training examples of these classes (n,) alone; labels and ids stay as they are."""
        rows = self._rows_of("train")
        return dataclasses.replace(self, _rows={"train": rows[np.isin(self._labels[rows], classes.cpu().numpy())]})

    def _serve(self, requests: list[Request], device: torch.device, weights: FloatArray | None = None, views: int = 0) -> Iterator[Batch]:
        """A batch for each request, or for each ``views + 1`` of them, which show the same examples."""
        read = self._reader.read(requests, device)
        for request in requests[:: views + 1]:
            inputs, *further = (next(read) for _ in range(views + 1))
            of_batch = None if weights is None else torch.from_numpy(weights[request.rows]).float()
            yield Batch(
                inputs=inputs,
                labels=to_device(torch.from_numpy(self._labels[request.rows]), device),
                index=to_device(torch.from_numpy(request.rows), device),
                weights=None if of_batch is None else to_device(of_batch, device),
                views=tuple(further),
            )

    def _rows_of(self, split: str) -> IntArray:
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}. {suggest(split, SPLITS)}")
        return self._rows.get(split, np.zeros(0, dtype=np.int64))
