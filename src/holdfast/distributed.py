"""Communication between ranks: the two implementations of :class:`holdfast.types.Comm`, and the only user of torch.distributed."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.types import Comm

__all__ = ["ProcessGroup", "SingleProcess", "check_rendezvous", "current_comm", "gather_objects", "in_step"]


Item = TypeVar("Item")


class SingleProcess:
    """One process: everything is local."""

    rank = 0
    size = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor


class ProcessGroup:
    """The default process group of torch.distributed."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def sum(self, tensor: Tensor) -> Tensor:
        """Elementwise sum over ranks; without gradient."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def gather(self, tensor: Tensor) -> Tensor:
        """Rows of all ranks in rank order; the row counts may differ."""
        gathered: Tensor = _Gather.apply(tensor, self.rank, self.size)
        return gathered

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor."""
        copy = tensor.detach().clone()
        # gloo and NCCL know no bool broadcast everywhere; bytes are the same thing.
        wire = copy.view(torch.uint8) if copy.dtype is torch.bool else copy
        dist.broadcast(wire, src=0)
        return copy


class _Gather(torch.autograd.Function):
    """Concatenation over ranks. Each rank's loss reads all rows, so backward sums over ranks the gradients of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, size: int) -> Tensor:
        counts = [torch.zeros((), dtype=torch.int64, device=tensor.device) for _ in range(size)]
        dist.all_gather(counts, torch.tensor(len(tensor), device=tensor.device))
        ctx.counts, ctx.rank = [int(count) for count in counts], rank
        # all_gather wants equal shapes: pad to the longest share and cut afterwards.
        padded = tensor.new_zeros(max(ctx.counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.counts[: ctx.rank])
        return total[start : start + ctx.counts[ctx.rank]], None, None


def check_rendezvous() -> None:
    """Refuse to look for other ranks where nothing says how to reach them.

    Raises:
        ConfigError: ``WORLD_SIZE`` speaks of several ranks, and ``MASTER_ADDR`` is not set.
    """
    ranks = os.environ.get("WORLD_SIZE", "1")
    if ranks != "1" and not os.environ.get("MASTER_ADDR") and current_comm().size == 1:
        raise ConfigError(
            f"the environment variable WORLD_SIZE is {ranks}, but MASTER_ADDR is not set, so the ranks cannot find each other; "
            "start with torchrun, or unset WORLD_SIZE"
        )


def current_comm() -> Comm:
    """The communication of this process: the default group where one is initialised, else a single process."""
    if dist.is_available() and dist.is_initialized():
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)
        return ProcessGroup()
    return SingleProcess()


def _leave_group() -> None:
    """Stop the group's threads before the interpreter ends: gloo now and then aborts a process that still has some.

    A wrapped module that waits for collection keeps its hold on the group, so it is collected first.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


def gather_objects(value: Any, comm: Comm) -> list[Any]:
    """A picklable value of each rank, in rank order, on every rank."""
    if comm.size == 1:
        return [value]
    values: list[Any] = [None] * comm.size
    dist.all_gather_object(values, value)
    return values


def in_step(items: Iterable[Item], comm: Comm, device: torch.device) -> Iterator[tuple[Item, bool]]:
    """Each rank's items, as many on all: where one has fewer it sees its last again, marked False; one without any sees another's.

    For work that ranks can only do together. What they do with an item comes between two of its steps.

    Args:
        items: Of this rank; pickled where another has none.
        comm: Communication between ranks.
        device: Where ranks talk.
    """
    iterator, spare, first = iter(items), None, True
    while True:
        item = next(iterator, None)
        having = int(comm.sum(torch.tensor(int(item is not None), device=device)))
        if having == 0:
            return
        if first and having < comm.size:
            spare = next(other for other in gather_objects(item, comm) if other is not None)
        first = False
        if item is not None:
            spare = item
        assert spare is not None
        yield spare, item is not None
