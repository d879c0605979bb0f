"""The linear probe of ``--recipe linear-probe``: the head alone, solved on features of the network as it was pretrained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.data import RunData
from holdfast.distributed import gather_objects
from holdfast.models.head import set_head
from holdfast.step import Clock
from holdfast.training.events import EpochDone, SetupStarted
from holdfast.training.logistic import Array, IntArray, Linear, accuracy_and_loss, logistic_path
from holdfast.training.loop import Trainer
from holdfast.training.validate import validate

__all__ = ["every_fifth", "solve_head", "solve_probe"]

PROBE_EVENT = "linear probe"
"""What it is called where progress is shown."""

USUAL_DECAY = 1e-4
"""The penalty where there is nothing to choose it by: no validation, and no class with five training examples."""

HELD_OUT = 5
"""Without a validation split every fifth example of each class is held out of train while the penalty is chosen."""


def solve_probe(trainer: Trainer) -> dict[str, Any]:
    """Put the best linear classifier on the features into the head, in place of training; on all ranks together.

    The features are those of un-augmented training images, computed once; on them the problem is convex and has one solution for each
    penalty, so that rates, epochs, augmentation and seeds have no say. The penalty is the one with the smallest loss on validation.

    Returns:
        What it was solved with, for ``result.json``.
    """
    job, began = trainer.job, time.monotonic()
    job.listener(SetupStarted(PROBE_EVENT))
    job.classifier.to(job.engine.device).eval()
    features = {split: _features(trainer, split) for split in ("train", "val") if job.data.has(split)}
    tensors, record = _solved_by_first(trainer, features)
    set_head(trainer.job.classifier.head, tensors)
    trainer.prepare()
    row: dict[str, float | int | None] = {"epoch": 1, "step": 0}
    validate(trainer, row)
    trainer.clock = Clock(0, 1, 0, trainer.total_steps)
    spent = time.monotonic() - began
    trainer.seconds = {"train": spent, "total": spent}
    row["seconds"] = round(spent, 3)
    if job.engine.is_main and not job.run.history:
        job.run.append_history(row)
    job.listener(EpochDone(1, 1, row))
    return record


def _features(trainer: Trainer, split: str) -> Array:
    """Pooled features (N, D) of a split, in the order of its ids, on all ranks."""
    job, comm = trainer.job, trainer.job.engine.comm
    batches = job.data.batches(split, rank=comm.rank, size=comm.size, device=job.engine.device)
    with torch.no_grad(), job.engine.autocast():
        own = [job.classifier.features(batch.inputs)["pooled"].float().cpu() for batch in batches]
    parts = gather_objects(torch.cat(own) if own else torch.empty(0, job.classifier.feature_dim), comm)
    return torch.cat(parts).double().numpy()


def _solved_by_first(trainer: Trainer, features: Mapping[str, Array]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The head that rank 0 has found, on all ranks, and what rank 0 says of it."""
    head, engine = trainer.job.classifier.head, trainer.job.engine
    num_classes = len(trainer.job.data.classes)
    weight = torch.zeros(num_classes, head.in_features, device=engine.device)
    bias = torch.zeros(num_classes, device=engine.device)
    record: dict[str, Any] = {}
    if engine.is_main:
        job = trainer.job
        found, record = solve_head(job.data, features, bias=head.bias is not None, seed=job.config.data_seed)
        weight.copy_(torch.from_numpy(found.weight))
        bias.copy_(torch.from_numpy(found.bias))
    return {"weight": engine.comm.broadcast(weight), "bias": engine.comm.broadcast(bias)}, record


def solve_head(data: RunData, features: Mapping[str, Array], *, bias: bool, seed: int) -> tuple[Linear, dict[str, Any]]:
    """The classifier with the penalty that did best on validation, or on examples of train that are then put back.

    Args:
        data: Labels and weights.
        features: Pooled features (N, D) of ``train`` and, where there is one, of ``val``, in the order of the ids.
        bias: Whether the head has one.
        seed: Draws the examples of train that choose, where there is no validation.

    Returns:
        The classifier, and how each penalty did.
    """
    rows = features["train"]
    labels, weights, num_classes = data.labels("train"), data.train_weights(), len(data.classes)
    path = partial(logistic_path, num_classes=num_classes, bias=bias)
    if "val" in features:
        found = path(rows, labels, weights=weights)
        decay, record = _choice(found, features["val"], data.labels("val"))
        return found[decay], record
    out = every_fifth(labels, seed)
    decay, record = USUAL_DECAY, {"l2": USUAL_DECAY, "tried": []}
    if out.any():
        trial = path(rows[~out], labels[~out], weights=None if weights is None else weights[~out])
        decay, record = _choice(trial, rows[out], labels[out])
    return path(rows, labels, weights=weights, decays=(decay,))[decay], record


def _choice(found: Mapping[float, Linear], rows: Array, labels: IntArray) -> tuple[float, dict[str, Any]]:
    """The penalty with the smallest loss, which tells more of few examples than accuracy does; of equals the strongest, which is first."""
    tried = {decay: accuracy_and_loss(linear, rows, labels) for decay, linear in found.items()}
    best = min(tried, key=lambda decay: tried[decay][1])
    return best, {"l2": best, "tried": [{"l2": decay, "accuracy": right, "loss": loss} for decay, (right, loss) in tried.items()]}


def every_fifth(labels: IntArray, seed: int) -> NDArray[np.bool_]:
    """Whether each example is held out: of each class every fifth, in an order drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    out = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        out[members[HELD_OUT - 1 :: HELD_OUT]] = True
    return out
