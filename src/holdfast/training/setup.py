"""What terms do once, before the first step."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.step import SourceView
from holdfast.terms import Term
from holdfast.training.events import SetupStarted
from holdfast.training.job import Job
from holdfast.training.optim import classifier_sgd
from holdfast.types import Batch

__all__ = ["set_up_terms", "source_of"]


def source_of(job: Job, total_steps: int) -> SourceView:
    """What the terms of a job may look at, with the reference on the device."""
    data, comm, device = job.data, job.engine.comm, job.engine.device
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
    return SourceView(job.reference, len(data.classes), total_steps, comm, open_split, has_split, seed, open_epoch, sgd)


def set_up_terms(job: Job, source: SourceView) -> None:
    """Show the pretrained features to every term that looks at them, and give all ranks the same state."""
    comm = job.engine.comm
    for weighted in job.terms:
        if type(weighted.term).setup is not Term.setup:
            job.listener(SetupStarted(weighted.name))
        weighted.term.setup(source)
        for name in weighted.term.STATE:
            tensor = getattr(weighted.term, name)
            if tensor is not None:
                tensor.data.copy_(comm.broadcast(tensor))
