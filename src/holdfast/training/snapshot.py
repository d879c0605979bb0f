"""The whole state of a training as one value: taken for a checkpoint, put back when the run is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from holdfast.config.schema import RELEVANT_FIELDS
from holdfast.distributed import gather_objects
from holdfast.errors import CheckpointError
from holdfast.step import Clock
from holdfast.training.checkpoint import random_state, restore_random_state
from holdfast.training.job import Job

if TYPE_CHECKING:
    from holdfast.training.loop import Trainer

__all__ = ["check_same_run", "restore_modules", "restore_progress", "take_snapshot"]


def take_snapshot(trainer: Trainer) -> dict[str, Any]:
    """Everything that decides how training goes on, between two optimizer steps. On all ranks together; the value is for rank 0."""
    job, engine = trainer.job, trainer.job.engine
    own = {"random": random_state(), "meter": trainer.meter.state_dict()}
    clock = dataclasses.asdict(trainer.clock)
    clock.pop("total_steps")
    state = {
        "fingerprints": job.fingerprints,
        "options": _options(job),
        "ranks": engine.comm.size,
        "threads": torch.get_num_threads(),
        "clock": clock,
        "model": job.classifier.net.state_dict(),
        "terms": trainer.objective.terms.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": engine.scaler_state(),
        "skipped": trainer.skipped,
        "multipliers": trainer.objective.multipliers,
        "metrics": trainer.term_metrics(),
        "candidates": trainer.candidates.state_dict(),
        "seconds": trainer.seconds,
        "epoch_seconds": trainer.epoch_seconds,
        "by_rank": gather_objects(own, engine.comm),
    }
    whole: dict[str, Any] = engine.whole(state)
    return whole


def restore_modules(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Put back network and terms, whose tensors must have their size before the optimizer is built and ranks are wired up."""
    trainer.job.classifier.net.load_state_dict(state["model"])
    trainer.objective.terms.load_state_dict(state["terms"])


def restore_progress(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Put back all else; the random generators last, since what is done on the way may draw from them."""
    job = trainer.job
    mine = state["by_rank"][job.engine.comm.rank]
    job.engine.load_optimizer(trainer.optimizer, state["optimizer"])
    job.engine.load_scaler_state(state["scaler"])
    trainer.candidates.load_state_dict(state["candidates"])
    trainer.skipped = state["skipped"]
    trainer.objective.multipliers = dict(state["multipliers"])
    trainer.meter.load_state_dict(mine["meter"], job.engine.device)
    trainer.seconds = dict(state["seconds"])
    trainer.epoch_seconds = state["epoch_seconds"]
    trainer.restored_metrics = dict(state["metrics"])
    trainer.clock = Clock(**state["clock"], total_steps=trainer.total_steps)
    restore_random_state(mine["random"])


def check_same_run(job: Job, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other data, weights, options or ranks.

    Raises:
        CheckpointError: Says what differs.
    """
    refused = f"--resume {job.run.path}:"
    words = {"data": f"data in {job.config.data!r}", "reference": f"weights of {job.config.model!r}"}
    for what, called in words.items():
        then, now = state["fingerprints"].get(what, ""), job.fingerprints.get(what, "")
        if then != now:
            raise CheckpointError(
                f"{refused} the {called} changed since the checkpoint ({then[:12]} then, {now[:12]} now); "
                "bring back what it was, or start a new run"
            )
    if state["options"] != _options(job):
        raise CheckpointError(
            f"{refused} {_first_difference(state['options'], _options(job))}; change it back in config.yaml, or start a new run"
        )
    if state["ranks"] != job.engine.comm.size:
        raise CheckpointError(
            f"{refused} the checkpoint is from {state['ranks']} rank(s), this is {job.engine.comm.size}; start as many as before"
        )


def _options(job: Job) -> dict[str, Any]:
    """The options that change numbers, as plain values."""
    return {key: getattr(job.config, key) for key in RELEVANT_FIELDS}


def _first_difference(then: Any, now: Any, where: str = "") -> str:
    """The first option that differs, such as ``method[1].alpha``, and both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        inner = [(f"{where}.{key}" if where else str(key), then.get(key), now.get(key)) for key in {**then, **now}]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        inner = [(f"{where}[{position}]", *pair) for position, pair in enumerate(zip(then, now, strict=True))]
    else:
        return f"the option {where} is {now!r} in config.yaml and was {then!r} at the checkpoint"
    return next(_first_difference(old, new, name) for name, old, new in inner if old != new)
