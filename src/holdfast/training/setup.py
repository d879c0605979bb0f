"""What terms do once, before the first step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from holdfast.step import SourceView
from holdfast.terms import Term
from holdfast.training.events import SetupStarted
from holdfast.training.job import Job
from holdfast.training.optim import classifier_sgd
from holdfast.types import Batch

__all__ = ["set_up_terms", "source_of"]


def source_of(job: Job, total_steps: int) -> SourceView:
    """What the terms of a job may look at, with the reference on the device where one of them looks."""
    data, comm, device = job.data, job.engine.comm, job.engine.device
    if any(type(weighted.term).setup is not Term.setup for weighted in job.terms):
        job.reference.to(device)

    def open_split(split: str) -> Iterator[Batch]:
        if split == "source" and job.source_data is not None:
            return job.source_data.batches("train", rank=comm.rank, size=comm.size, device=device)
        return data.batches(split, rank=comm.rank, size=comm.size, device=device)

    def has_split(split: str) -> bool:
        return job.source_data is not None if split == "source" else data.has(split)

    def open_epoch(batch_size: int, epoch: int) -> Iterator[Batch]:
        whole = min(batch_size, data.size("train")) // comm.size * comm.size
        return data.train_batches(
            epoch=epoch, seed=job.config.seed, batch_size=whole, rank=comm.rank, size=comm.size, device=device, augmented=False
        )

    seed, sgd = job.config.seed, classifier_sgd(job.config)

    def all_index() -> Tensor:
        return torch.from_numpy(data.index("train")).to(device)

    return SourceView(job.reference, len(data.classes), total_steps, comm, open_split, has_split, seed, open_epoch, sgd, all_index)


def _announced(source: SourceView, announce: Callable[[], None]) -> SourceView:
    """The same source, which says so when a term first looks at the data: that takes time."""
    tell = functools.cache(announce)

    def open_split(split: str) -> Iterator[Batch]:
        tell()
        return source.open_split(split)

    def open_epoch(batch_size: int, epoch: int) -> Iterator[Batch]:
        tell()
        return source.shuffled(batch_size, epoch)

    return dataclasses.replace(source, open_split=open_split, open_epoch=open_epoch)


def set_up_terms(job: Job, source: SourceView) -> None:
    """Show the pretrained features to every term that looks at them, and give all ranks the same state."""
    comm = job.engine.comm
    for weighted in job.terms:
        weighted.term.setup(_announced(source, functools.partial(job.listener, SetupStarted(weighted.name))))
        for name in weighted.term.STATE:
            tensor = getattr(weighted.term, name)
            if tensor is not None:
                tensor.data.copy_(comm.broadcast(tensor))
