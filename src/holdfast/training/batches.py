"""The batches of a training, from wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holdfast.data.companion import Companion, join
from holdfast.training.job import Job
from holdfast.types import Batch

__all__ = ["companion_rows", "epoch_batches"]


def epoch_batches(job: Job, epoch: int, *, start_step: int = 0, companions: Mapping[str, Iterator[Batch]]) -> Iterator[Batch]:
    """This rank's micro-batches of an epoch from one of its steps on, each joined by the next rows of the companions."""
    config, comm = job.config, job.engine.comm
    batches = job.data.train_batches(
        epoch=epoch,
        seed=config.seed,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        rank=comm.rank,
        size=comm.size,
        start_step=start_step,
        device=job.engine.device,
        views=job.views,
    )
    return join(batches, companions)


def companion_rows(job: Job, step: int) -> dict[str, Iterator[Batch]]:
    """Rows of other data that the terms want beside each batch, from an optimizer step of the run on."""
    if job.source_data is None:
        return {}
    chosen = [classes for weighted in job.terms if (classes := weighted.term.extra_classes().get("source")) is not None]
    data = job.source_data.restricted(chosen[0]) if chosen else job.source_data
    config, comm = job.config, job.engine.comm
    rows = Companion(data).batches(
        step=step,
        seed=config.seed,
        batch_size=job.data.effective_batch_size(config.batch_size),
        accumulate=config.accumulate,
        rank=comm.rank,
        size=comm.size,
        device=job.engine.device,
    )
    return {"source": rows}
