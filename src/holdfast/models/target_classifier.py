"""A classifier of the target classes that is trained from the pretrained network before the run, for methods that look at one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from holdfast.errors import NonFiniteError
from holdfast.models.classifier import Classifier, freeze_batchnorm
from holdfast.types import Batch, Comm

__all__ = ["SGD", "train_classifier"]

DECAY_EPOCHS = 6
"""The learning rate falls by a factor of 10 in as many epochs, epoch by epoch (Transfer-Learning-Library, commit c4aa59e)."""


@dataclass(frozen=True)
class SGD:
    """How it is trained: the SGD of the run.

    Args:
        lr: Learning rate of the backbone.
        head_lr: Learning rate of the head.
        momentum: Nesterov momentum.
        weight_decay: Weight decay.
        train_batchnorm: Whether BatchNorm follows the batches.
    """

    lr: float = 0.01
    head_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    train_batchnorm: bool = True


def train_classifier(
    classifier: Classifier,
    batches: Callable[[int], Iterable[Batch]],
    comm: Comm,
    *,
    epochs: int,
    sgd: SGD,
    backbone: bool = True,
    seed: int = 0,
) -> None:
    """Train by cross-entropy in place, with the same result on every rank; the classifier is in eval mode afterwards.

    Args:
        classifier: The network with its fresh head.
        batches: This rank's part of the batches of an epoch, by its 0-based number; equally many on each rank.
        comm: The other ranks.
        epochs: How many epochs.
        sgd: How to step.
        backbone: Whether all weights are trained; without, the head alone, on features of the network at rest.
        seed: Seed of dropout.

    Raises:
        NonFiniteError: The loss became NaN or infinite.
    """
    if not sgd.train_batchnorm:
        freeze_batchnorm(classifier)
    optimizer = _optimizer(classifier, sgd, backbone)
    device = classifier.head.weight.device
    with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
        torch.manual_seed(seed + comm.rank)
        for epoch in range(epochs):
            classifier.train(backbone)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * 0.1 ** (epoch / DECAY_EPOCHS)
            for batch in batches(epoch):
                _step(classifier, batch, comm, optimizer)
    classifier.eval().requires_grad_(False)
    _check_finite(classifier)
    _average_buffers(classifier, comm)


def _optimizer(classifier: Classifier, sgd: SGD, backbone: bool) -> torch.optim.Optimizer:
    groups = [{"params": [parameter for _, parameter in classifier.head_parameters()], "initial_lr": sgd.head_lr}]
    others = [parameter.requires_grad_(backbone) for _, parameter in classifier.backbone_parameters()]
    if backbone and others:
        groups.append({"params": others, "initial_lr": sgd.lr})
    return torch.optim.SGD(groups, lr=sgd.lr, momentum=sgd.momentum, nesterov=sgd.momentum > 0, weight_decay=sgd.weight_decay)


def _step(classifier: Classifier, batch: Batch, comm: Comm, optimizer: torch.optim.Optimizer) -> None:
    rows = comm.sum(torch.tensor(len(batch), device=batch.labels.device))
    optimizer.zero_grad()
    (F.cross_entropy(classifier(batch.inputs).logits, batch.labels, reduction="sum") / rows).backward()
    if comm.size > 1:
        for parameter in classifier.parameters():
            if parameter.grad is not None:
                parameter.grad = comm.sum(parameter.grad)
    optimizer.step()


def _check_finite(classifier: Classifier) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in classifier.parameters()):
        raise NonFiniteError(
            "the classifier that a method trains before the run became NaN or infinite; start again with a lower --lr, or let the method "
            "train it for fewer epochs"
        )


def _average_buffers(classifier: Classifier, comm: Comm) -> None:
    """BatchNorm's running statistics are those of each rank's rows."""
    for buffer in classifier.buffers():
        if comm.size > 1 and buffer.is_floating_point():
            buffer.copy_(comm.sum(buffer) / comm.size)
