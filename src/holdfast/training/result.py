"""What is written when training ends: selected weights, predictions, result."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from holdfast.labels.report import noise_report
from holdfast.training.checkpoint import drop_weights, load_weights
from holdfast.training.evaluate import Predictions, measure
from holdfast.training.loop import Trainer

__all__ = ["finish", "peak_memory_mib"]

_EVALUATED = ("val", "test")

State = tuple[int, str]
"""Weights of the network: after which epoch, and ``raw`` or ``ema``."""


def finish(trainer: Trainer, *, holdfast_version: str, model_spec: str, probe: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Evaluate all candidate states, select one, write the run's files and return the result.

    The test split is read here for the first time, for all candidates together, after the choice between them was made on
    validation. On all ranks; rank 0 writes.

    Args:
        trainer: A trainer that has trained.
        holdfast_version: For the record.
        model_spec: ``--model`` as given.
        probe: How the head was solved, where that took the place of training.
    """
    job = trainer.job
    candidates = _candidates(trainer)
    evaluated = _evaluate(trainer, [candidate.state for candidate in candidates])
    selections = [{**candidate.record, **_measured(evaluated[candidate.state])} for candidate in candidates]
    result = {
        "schema": 1,
        "holdfast": holdfast_version,
        "finished": True,
        "config_hash": job.fingerprints["config"],
        "data": {
            **{f"n_{split}": job.data.size(split) for split in ("train", *_EVALUATED)},
            "classes": list(job.data.classes),
            "fingerprint": job.fingerprints["data"],
        },
        "model": {
            "spec": model_spec,
            "parameters": sum(parameter.numel() for parameter in job.classifier.net.parameters()),
            "reference_fingerprint": job.fingerprints["reference"],
        },
        "training": {
            "epochs": trainer.clock.epoch,
            "planned_epochs": job.config.epochs,
            "stopped_early": trainer.stopped_early,
            "skipped_updates": trainer.skipped,
            **({"probe": probe} if probe is not None else {}),
        },
        "train": measure(trained := trainer.predict("train")),
        "val": selections[0]["val"],
        "test": selections[0]["test"],
        "selections": selections,
        "terms": _terms(trainer),
        "cost": _cost(trainer),
        **_noise(trained, trainer),
    }
    weights = job.engine.whole(job.classifier.net.state_dict())
    if job.engine.is_main:
        predictions = evaluated[candidates[0].state]
        job.run.save_model(weights)
        job.run.save_predictions({split: _with_ids(split, predictions[split], trainer) for split in predictions})
        job.run.write_result(result)
        drop_weights(job.run, ())
    job.engine.wait()
    return result


class _Candidate(NamedTuple):
    """Weights that could be the result: the words of ``--select``, the epoch (from 1), the steps done, ``raw`` or ``ema``."""

    by: str
    epoch: int
    step: int
    weights: str

    @property
    def record(self) -> dict[str, Any]:
        """What ``result.json`` says of it; a choice made on the test split is marked, since its test accuracy is too good."""
        return {**self._asdict(), **({"optimistic": True} if self.by == "best-by-test" else {})}

    @property
    def state(self) -> State:
        """Which weights these are; several criteria may point at the same."""
        return self.epoch, self.weights


def _candidates(trainer: Trainer) -> list[_Candidate]:
    """The selections, primary first."""
    config, epoch, step = trainer.job.config, trainer.clock.epoch, trainer.clock.step
    found = [
        candidate
        for form, selection in trainer.candidates.selections.items()
        for candidate in (
            _Candidate("last", epoch, step, form),
            *(_Candidate(by, chosen.epoch, chosen.step, form) for by, chosen in selection.best.items()),
        )
    ]
    return sorted(found, key=lambda candidate: (candidate.by, candidate.weights) != (config.select, config.primary_weights))


def _evaluate(trainer: Trainer, states: Sequence[State]) -> dict[State, dict[str, Predictions]]:
    """Predictions of each state's weights on val and test; leaves the network at the first."""
    job = trainer.job
    last = {
        (trainer.clock.epoch, form): {name: tensor.detach().clone() for name, tensor in trainer.candidates.weights(form).items()}
        for form in trainer.candidates.forms
    }

    def load(state: State) -> None:
        job.engine.load(job.classifier.net, last[state] if state in last else load_weights(job.run, *state))

    evaluated = {}
    for state in dict.fromkeys(states):
        load(state)
        evaluated[state] = {split: trainer.predict(split) for split in _EVALUATED if job.data.has(split)}
    load(states[0])
    return evaluated


def _measured(predictions: dict[str, Predictions]) -> dict[str, dict[str, Any] | None]:
    return {split: measure(predictions[split]) if split in predictions else None for split in _EVALUATED}


def _with_ids(split: str, predictions: Predictions, trainer: Trainer) -> tuple[Any, Any, list[str]]:
    """Arrays of a split with its ids, which evaluation goes through in order."""
    return predictions.logits.numpy(), predictions.labels.numpy(), trainer.job.data.ids(split)


def _terms(trainer: Trainer) -> dict[str, dict[str, float | None]]:
    """Weight and last epoch's mean of each term."""
    rows = trainer.job.run.history
    last = rows[-1] if rows else {}
    return {name: {"weight": weight, "last": _number(last.get(name))} for name, weight in trainer.objective.multipliers.items()}


def _noise(trained: Predictions, trainer: Trainer) -> dict[str, Any]:
    """What became of wrong labels of train as they were given, where the data tells the truth."""
    data = trainer.job.data
    truth = data.true_labels("train")
    if truth is None or not (known := truth >= 0).any():
        return {}
    predicted = trained.logits.argmax(dim=1).numpy()
    report = noise_report(truth[known], data.given_labels("train")[known], predicted[known], len(data.classes))
    return {"noise": {"n": int(known.sum()), **{name: value for name, value in asdict(report).items() if name != "transition"}}}


def _number(cell: object) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None


def _cost(trainer: Trainer) -> dict[str, Any]:
    job, steps = trainer.job, trainer.clock.step
    per_step = trainer.seconds["train"] / steps if steps else None  # a probe is solved without any
    return {
        "device": _device_name(job.engine.device),
        "steps": steps,
        "seconds_total": trainer.seconds["total"],
        "seconds_per_step": per_step,
        "seconds_per_epoch": per_step * trainer.steps_per_epoch if per_step is not None else None,
        "images_per_second": trainer.batch_size / per_step if per_step else None,
        "peak_memory_mib": peak_memory_mib(job.engine.device),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"


def peak_memory_mib(device: torch.device) -> float:
    """Peak of the device's allocations, or on the CPU of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
