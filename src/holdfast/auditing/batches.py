"""Batches as an audit needs them: some rows of one, examples drawn from a loader, smaller batches from larger ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import ConfigError, DataError, NonDeterministicError
from holdfast.measures.evaluation import inputs_and_labels
from holdfast.types import Batch

__all__ = ["GivenExamples", "join", "recut", "rows_of"]

Pair = Batch | tuple[Any, Tensor]

CPU = torch.device("cpu")


class GivenExamples:
    """Examples from batches of the user's, by split.

    Batches are made anew each time a split is read, and only what is asked for is kept.

    Args:
        splits: For each split batches, or pairs of inputs and labels, that can be passed over again and are the same each time.

    Raises:
        ConfigError: Batches can be passed over only once.
        DataError: There is no training example.
        NonDeterministicError: The first batch differs from pass to pass.
    """

    def __init__(self, splits: Mapping[str, Iterable[Pair]]) -> None:
        self._splits = dict(splits)
        for split, batches in self._splits.items():
            _check_repeatable(split, batches)
        self._sizes = {split: sum(len(labels) for _, labels in map(_opened, batches)) for split, batches in self._splits.items()}
        if not self._sizes.get("train"):
            raise DataError("audit(train=...): there is no example in it; give the batches that the network was trained on, un-augmented.")

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        return self.size(split) > 0

    def size(self, split: str) -> int:
        """Examples of a split."""
        return self._sizes.get(split, 0)

    def batches(
        self, split: str, *, batch_size: int | None = None, rank: int = 0, size: int = 1, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """This rank's share: a contiguous part of the examples, in the batches they come in or smaller ones."""
        yield from self._chosen(split, torch.arange(self.size(split)), batch_size, rank, size, device)

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
        """As :meth:`batches`, of at most ``most`` examples drawn by ``seed``."""
        drawn = torch.randperm(self.size(split), generator=torch.Generator().manual_seed(seed))[:most].sort().values
        rows = list(self._chosen(split, drawn, None, rank, size, device))
        yield from recut(rows, batch_size or most)

    def _chosen(
        self, split: str, chosen: Tensor, batch_size: int | None, rank: int, size: int, device: torch.device | str
    ) -> Iterator[Batch]:
        mine = chosen.tensor_split(size)[rank]
        start = 0
        for inputs, labels in map(_opened, self._splits[split]):
            here = mine[(mine >= start) & (mine < start + len(labels))]
            for part in (here - start).split(batch_size or max(len(labels), 1)):
                if len(part):
                    moved = inputs_and_labels((rows_of(inputs, part, len(labels)), labels[part]), torch.device(device))
                    yield Batch(*moved, index=part + start)
            start += len(labels)


def rows_of(inputs: Any, rows: Tensor, count: int) -> Any:
    """Some rows of what goes into a network: of each tensor with ``count`` of them; whatever else there is stays."""
    if isinstance(inputs, Mapping):
        return {name: rows_of(value, rows, count) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return type(inputs)(rows_of(value, rows, count) for value in inputs)
    return inputs[rows] if isinstance(inputs, Tensor) and inputs.ndim and len(inputs) == count else inputs


def join(parts: Sequence[Any]) -> Any:
    """The inputs of several batches one after the other; what is no tensor is taken from the first."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: join([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)(join(column) for column in zip(*parts, strict=True))
    return torch.cat(list(parts)) if isinstance(first, Tensor) and first.ndim else first


def recut(batches: Sequence[Batch], batch_size: int) -> list[Batch]:
    """The same examples in batches of another size; nothing for nothing."""
    if not batches:
        return []
    same = len({_widths(batch.inputs) for batch in batches}) == 1
    if not same:  # texts that were padded batch by batch: smaller ones can be cut, larger ones not joined
        return [part for batch in batches for part in _cut(batch, batch_size)]
    whole = Batch(
        join([batch.inputs for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        index=torch.cat([batch.index for batch in batches]),
    )
    return _cut(whole, batch_size)


def _cut(batch: Batch, batch_size: int) -> list[Batch]:
    count = len(batch.labels)
    parts = torch.arange(count, device=batch.labels.device).split(batch_size)
    return [Batch(rows_of(batch.inputs, part, count), batch.labels[part], index=batch.index[part.to(batch.index.device)]) for part in parts]


def _widths(inputs: Any) -> Any:
    """The shapes of all tensors but for the number of rows."""
    if isinstance(inputs, Mapping):
        return tuple((name, _widths(value)) for name, value in inputs.items())
    if isinstance(inputs, tuple | list):
        return tuple(map(_widths, inputs))
    return tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else None


def _opened(batch: Pair) -> tuple[Any, Tensor]:
    if not isinstance(batch, Batch) and not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise DataError(
            f"audit: a batch must be a pair (inputs, labels) or a holdfast.types.Batch, got a {type(batch).__name__}; "
            "put the labels beside the inputs, such as (tokens, labels) for a dict of tokens."
        )
    inputs, labels = inputs_and_labels(batch if isinstance(batch, Batch) else (batch[0], batch[1]), CPU)
    return inputs, labels


def _check_repeatable(split: str, batches: Iterable[Pair]) -> None:
    if isinstance(batches, Iterator):
        raise ConfigError(
            f"audit({split}=...): this {type(batches).__name__} is used up after one pass; give a list of batches or a DataLoader."
        )
    first, again = (next(iter(batches), None) for _ in range(2))
    if first is None or again is None:
        return
    if not _equal(_opened(first), _opened(again)):
        raise NonDeterministicError(
            f"audit({split}=...): the first batch is another one in each pass; give batches without shuffling and without random "
            "augmentation, such as DataLoader(..., shuffle=False)."
        )


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, Tensor):
        return first.shape == second.shape and bool(torch.equal(first, second))
    return True
