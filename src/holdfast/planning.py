"""What a run would do and take, before it is begun: ``holdfast fit --dry-run`` and ``holdfast.plan``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from holdfast.config.schema import FitConfig
from holdfast.measures.tracking import MOST_EXAMPLES, measure_features
from holdfast.training.job import Job
from holdfast.training.rehearsal import Rehearsal, rehearse

__all__ = ["Plan", "PlannedDisk", "PlannedMemory", "PlannedTime", "make_plan"]

MIB = 2**20


@dataclass(frozen=True)
class PlannedTime:
    """Seconds, estimated from a few real steps on this machine.

    Args:
        setup: Before the first step: what the methods look at, and what the first step takes beyond others.
        step: An optimizer step, loading of the images included; the median of ``timed_steps``.
        timed_steps: How many steps were timed.
        epoch: An epoch with its evaluation and tracking; writing to disk is left out.
        end: The evaluation of all candidate weights after training.
        total: All of it, for all epochs.
    """

    setup: float
    step: float
    timed_steps: int
    epoch: float
    end: float
    total: float


@dataclass(frozen=True)
class PlannedMemory:
    """MiB on each rank.

    Args:
        peak: Highest use in the timed steps: of the device; on the CPU of the whole process, Python and libraries included.
        stored: What is there all the time: ``weights``, ``gradients``, ``optimizer``, ``average`` (of the weights), ``methods``,
            ``reference`` (the pretrained weights), and ``images`` (decoded, in main memory) or ``texts`` (their tokens).
    """

    peak: float
    stored: Mapping[str, float]


@dataclass(frozen=True)
class PlannedDisk:
    """MiB of the run directory, ``finished`` and at most while the run goes (``training``)."""

    finished: float
    training: float


@dataclass(frozen=True)
class Plan:
    """What a run would do and take.

    Args:
        config: All its options, with what was left open filled in.
        device: Where it computes.
        ranks: How many processes share the work.
        classes: Names of the classes.
        n_train: Examples to train on.
        n_val: Examples held out for selection, 0 for none.
        n_test: Examples of the test split, 0 for none.
        batch_size: Examples per optimizer step: all of them where there are fewer than a batch.
        steps_per_epoch: Optimizer steps of an epoch.
        total_steps: Steps of the run, unless ``--patience`` ends it earlier.
        trained_parameters: Numbers that are trained, those of the methods included.
        frozen_parameters: Numbers of the network that stay as pretrained.
        time: Seconds.
        memory: MiB.
        disk: MiB.
    """

    config: FitConfig
    device: str
    ranks: int
    classes: tuple[str, ...]
    n_train: int
    n_val: int
    n_test: int
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    trained_parameters: int
    frozen_parameters: int
    time: PlannedTime
    memory: PlannedMemory
    disk: PlannedDisk


def make_plan(job: Job, *, stores_reference: bool) -> Plan:
    """Rehearse a job and draw conclusions. Its network is changed by the steps that are timed; its run directory is not touched.

    Args:
        job: What would be trained.
        stores_reference: Whether the pretrained weights would be written into the run directory.
    """
    rehearsal = rehearse(job)
    config, data = job.config, job.data
    steps = data.steps_per_epoch(config.batch_size)
    parameters = [*job.classifier.parameters(), *(p for weighted in job.terms for p in weighted.term.parameters())]
    return Plan(
        config=config,
        device=str(job.engine.device),
        ranks=job.engine.comm.size,
        classes=data.classes,
        n_train=data.size("train"),
        n_val=data.size("val"),
        n_test=data.size("test"),
        batch_size=data.effective_batch_size(config.batch_size),
        steps_per_epoch=steps,
        total_steps=steps * config.epochs,
        trained_parameters=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        frozen_parameters=sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
        time=_time(job, rehearsal, steps),
        memory=PlannedMemory(rehearsal.peak_memory_mib, {name: size / MIB for name, size in rehearsal.stored.items()}),
        disk=_disk(job, rehearsal, stores_reference=stores_reference),
    )


def _time(job: Job, rehearsal: Rehearsal, steps: int) -> PlannedTime:
    config = job.config
    forms, tracked = _forms(config), "test" in config.track
    val, test, train = (_evaluation(job, rehearsal, job.data.size(split)) for split in ("val", "test", "train"))
    features = _feature_tracking(job, rehearsal) if "features" in config.track else 0.0
    setup = rehearsal.setup_seconds + features + max(0.0, rehearsal.first_step_seconds - rehearsal.step_seconds)
    epoch = steps * rehearsal.step_seconds + forms * (val + tracked * test) + features
    end = train + forms * (1 + _criteria(job)) * (val + test)  # at most: several criteria may choose the same epoch
    return PlannedTime(setup, rehearsal.step_seconds, rehearsal.steps, epoch, end, setup + config.epochs * epoch + end)


def _evaluation(job: Job, rehearsal: Rehearsal, examples: int) -> float:
    """Seconds for a pass over so many examples, which ranks share."""
    return -(-examples // job.engine.comm.size) * rehearsal.evaluation_seconds


def _feature_tracking(job: Job, rehearsal: Rehearsal) -> float:
    """Seconds of ``--track features`` after an epoch: the passes, and the measures on features of the right size."""
    examples, device = min(MOST_EXAMPLES, job.data.size("train")), job.engine.device
    generator = torch.Generator().manual_seed(0)
    labels = torch.from_numpy(job.data.labels("train"))[torch.randperm(job.data.size("train"), generator=generator)[:examples]]
    features = torch.randn(examples, job.classifier.feature_dim, generator=generator).to(device)
    logits = torch.randn(examples, len(job.data.classes), generator=generator).to(device)
    began = time.perf_counter()
    measure_features(features, labels.to(device), logits)
    return _evaluation(job, rehearsal, examples) + time.perf_counter() - began


def _disk(job: Job, rehearsal: Rehearsal, *, stores_reference: bool) -> PlannedDisk:
    stored, data = rehearsal.stored, job.data
    ranks = job.engine.comm.size if job.engine.spreads else 1  # that each hold a part of what is written as a whole
    weights, average, optimizer = (ranks * stored[name] for name in ("weights", "average", "optimizer"))
    methods = stored["methods"]
    used = any(weighted.term.NEEDS.reference for weighted in job.terms)  # by training, where it is spread too
    always = stored["reference"] * (ranks if used else 1) if stores_reference else 0
    checkpoint = weights + average + optimizer + methods
    predictions = (data.size("val") + data.size("test")) * 4 * len(data.classes)
    finished = always + checkpoint + weights + predictions
    # A checkpoint is whole before the one before it goes, and so are the weights of the best epochs.
    training = always + 2 * checkpoint + (_forms(job.config) * _criteria(job) + 1) * weights
    return PlannedDisk(finished / MIB, max(finished, training) / MIB)


def _forms(config: FitConfig) -> int:
    """Trained weights, and their average."""
    return 1 if config.ema is None else 2


def _criteria(job: Job) -> int:
    """Criteria beside "last" whose best epochs are kept: accuracy and loss on validation, accuracy on a tracked test split."""
    return 2 * job.data.has("val") + ("test" in job.config.track)
