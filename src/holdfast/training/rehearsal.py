"""A few real steps and evaluations, to estimate what a whole run takes; nothing is written and nothing remembered."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.models.shards import own_part
from holdfast.terms import Term
from holdfast.training.batches import companion_rows, epoch_batches
from holdfast.training.evaluate import predict_batches
from holdfast.training.job import Job
from holdfast.training.loop import Trainer
from holdfast.training.result import peak_memory_mib
from holdfast.training.setup import set_up_terms, source_of
from holdfast.types import Batch

__all__ = ["Rehearsal", "rehearse"]

log = logging.getLogger("holdfast")

TIMED_STEPS = 5
TIMED_BATCHES = 3
ENOUGH_SECONDS = 20.0
"""No further step is timed after this long."""


@dataclass(frozen=True)
class Rehearsal:
    """What was measured, on this rank.

    Args:
        setup_seconds: For what the methods look at before the first step, scaled up from a few batches.
        first_step_seconds: Of the first step, in which memory is claimed and kernels are chosen or compiled.
        step_seconds: Median of the steps after it, loading of the images included.
        steps: How many steps that is the median of.
        evaluation_seconds: For an example that is loaded and passed through the network without training.
        stored: Bytes by what they hold, all the time while the run trains.
        peak_memory_mib: Peak on the device; on the CPU that of the whole process.
    """

    setup_seconds: float
    first_step_seconds: float
    step_seconds: float
    steps: int
    evaluation_seconds: float
    stored: Mapping[str, int]
    peak_memory_mib: float


def rehearse(job: Job) -> Rehearsal:
    """Set up, train and evaluate a little, on all ranks together, with the real objective and the real data.

    The network of the job is trained by a few steps and must not be used afterwards. The job's run directory is never touched; random
    states are put back.
    """
    trainer = Trainer(job)
    device = job.engine.device
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        if gpus:
            torch.cuda.reset_peak_memory_stats(device)
        setup = _time_setup(trainer)
        trainer.prepare()
        first, *others = _time_steps(trainer)
        stored = _stored(trainer)
        evaluation = _time_evaluation(trainer)
    return Rehearsal(
        setup_seconds=setup,
        first_step_seconds=first,
        step_seconds=statistics.median(others or [first]),
        steps=max(1, len(others)),
        evaluation_seconds=evaluation,
        stored=stored,
        peak_memory_mib=peak_memory_mib(device),
    )


# ---------------------------------------------------------------------------------------------------------------------- setup


def _time_setup(trainer: Trainer) -> float:
    """Seconds that the setup of all terms takes on all data, from a part of it where that will do."""
    job = trainer.job
    source = source_of(job, trainer.total_steps)
    if all(type(weighted.term).setup is Term.setup for weighted in job.terms):
        return 0.0
    few = _FewBatches(job)
    job.reference.features(next(source.batches("train")).inputs)  # the first pass is slow
    began = _now(job)
    try:
        set_up_terms(job, dataclasses.replace(source, open_split=few.open))
        return (_now(job) - began) * few.share
    except DataError as error:
        log.info("a method cannot be set up with a few batches (%s), so it sees all of them", error)
    began = _now(job)
    set_up_terms(job, source)
    return _now(job) - began


class _FewBatches:
    """The first batches of each split with labels that name every class which has examples: enough for a setup to go through.

    The labels are wrong, so the terms' state is of the right size and of no use.
    """

    def __init__(self, job: Job) -> None:
        self._splits = {"source": (job.source_data or job.data, "train")}
        self._data = job.data
        self._comm = job.engine.comm
        self._device = job.engine.device
        self._used = self._all = 0

    @property
    def share(self) -> float:
        """How many times as many examples a real setup reads."""
        return self._all / self._used if self._used else 1.0

    def open(self, split: str) -> Iterator[Batch]:
        """Batches of this rank."""
        data, split = self._splits.get(split, (self._data, split))
        present = torch.from_numpy(np.unique(data.labels(split)))
        self._all += -(-data.size(split) // self._comm.size)
        seen = 0
        for number, batch in enumerate(data.batches(split, rank=self._comm.rank, size=self._comm.size, device=self._device)):
            if number >= TIMED_BATCHES and seen >= len(present):
                return
            labels = present[torch.arange(seen, seen + len(batch)) % len(present)]
            seen += len(batch)
            self._used += len(batch)
            yield dataclasses.replace(batch, labels=labels.to(self._device))


# ---------------------------------------------------------------------------------------------------------- steps, evaluation


def _time_steps(trainer: Trainer) -> list[float]:
    """Seconds of the first steps, the very first included."""
    job = trainer.job
    batches = _training_batches(trainer)
    seconds: list[float] = []
    while len(seconds) < min(1 + TIMED_STEPS, trainer.total_steps) and (len(seconds) < 2 or sum(seconds) < ENOUGH_SECONDS):
        began = _now(job)
        trainer.update(batches)
        # Ranks must agree on when to stop.
        seconds.append(float(job.engine.comm.broadcast(torch.tensor(_now(job) - began, device=job.engine.device))))
    return seconds


def _training_batches(trainer: Trainer) -> Iterator[Batch]:
    """The batches of the run's first epochs."""
    job = trainer.job
    companions = companion_rows(job, 0)
    return itertools.chain.from_iterable(epoch_batches(job, epoch, companions=companions) for epoch in range(job.config.epochs))


def _time_evaluation(trainer: Trainer) -> float:
    """Seconds for an example of this rank."""
    job = trainer.job
    comm, device = job.engine.comm, job.engine.device
    most, seconds = TIMED_BATCHES * trainer.batch_size, 0.0
    for _ in range(2):  # the first pass is slow
        batches = job.data.sample("train", most, seed=0, rank=comm.rank, size=comm.size, device=device)
        began = _now(job)
        predictions = predict_batches(job.classifier, batches, job.engine, len(job.data.classes))
        seconds = (_now(job) - began) * comm.size / len(predictions.labels)
    return seconds


def _stored(trainer: Trainer) -> dict[str, int]:
    """Bytes of what lies in memory between two steps."""
    job = trainer.job
    average = trainer.candidates.average
    return {
        "weights": _bytes_in(job.classifier.net.state_dict()),
        "gradients": sum(own_part(parameter.grad).nbytes for parameter in trainer.objective.parameters() if parameter.grad is not None),
        "optimizer": _bytes_in(trainer.optimizer.state_dict()["state"]),
        "average": 0 if average is None else _bytes_in(average.state_dict()),
        "methods": _bytes_in(trainer.objective.terms.state_dict()),
        "reference": _bytes_in(job.reference.state_dict()),
        f"{job.data.unit}s": job.data.cached_bytes,
    }


def _bytes_in(tree: Any) -> int:
    """Bytes of all tensors in nested dicts and lists; of what is spread over ranks, those of this rank."""
    if isinstance(tree, Tensor):
        return own_part(tree).nbytes
    values = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return sum(map(_bytes_in, values))


def _now(job: Job) -> float:
    """Seconds on a clock, once the device has done what it was given."""
    if job.engine.device.type == "cuda":
        torch.cuda.synchronize(job.engine.device)
    return time.perf_counter()
