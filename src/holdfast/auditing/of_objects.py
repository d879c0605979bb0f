"""A network in memory as the subject of an audit, with whatever inputs and loss it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.auditing.batches import GivenExamples
from holdfast.auditing.subject import Subject, start_for
from holdfast.distributed import current_comm
from holdfast.errors import ConfigError, ModelError
from holdfast.measures.products import Loss
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.head import find_head
from holdfast.types import Batch

__all__ = ["subject_of_objects"]

Batches = Iterable[Batch | tuple[Any, Tensor]]


def subject_of_objects(
    net: nn.Module,
    *,
    start: Mapping[str, Tensor] | None,
    train: Batches | None,
    test: Batches | None,
    loss: Loss | None,
    classes: Sequence[str] | None,
) -> Subject:
    """Any network that returns logits, or something with the attribute ``logits``.

    Raises:
        ConfigError: Something is missing.
        ModelError: The network is in train mode, of half precision, or without parameters.
        DataError: There is no training example.
    """
    if start is None or train is None:
        missing = " and ".join(name for name, value in (("start", start), ("train", train)) if value is None)
        raise ConfigError(
            f"audit({missing}=...) is missing; give start=state_dict of the weights that fine-tuning started from, and train=batches "
            "of the training data."
        )
    if net.training:
        raise ModelError(
            "audit: the network is in train mode, where dropout and BatchNorm make its loss random or dependent on the batch; "
            "call net.eval() first."
        )
    _check_type(net)
    data = GivenExamples({"train": train, **({} if test is None else {"test": test})})
    head_name, notes = _head(net)
    named = getattr(loss, "__name__", type(loss).__name__) if loss is not None else "cross-entropy"
    return Subject(
        net=net,
        head_name=head_name,
        start=start_for(net, head_name, start, label="audit(start=...)"),
        loss=loss or partial(cross_entropy, reduction="none"),
        loss_name=named,
        data=data,
        classes=tuple(map(str, classes or ())),
        comm=current_comm(),
        description={
            "model": type(net).__name__,
            "source": "the state dict given as start",
            "data": "the batches given",
            "reference_fingerprint": fingerprint_tensors(dict(start)),
        },
        notes=notes,
    )


def _check_type(net: nn.Module) -> None:
    parameter = next(net.parameters(), None)
    if parameter is None:
        raise ModelError(f"audit: {type(net).__name__} has no parameters.")
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"audit: curvature needs weights of float32 or float64, got {parameter.dtype}; pass net.float().")


def _head(net: nn.Module) -> tuple[str | None, tuple[str, ...]]:
    try:
        return find_head(net), ()
    except ModelError as error:
        return None, (f"No head was found: {error}",)
