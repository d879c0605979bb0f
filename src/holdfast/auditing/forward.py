"""Passing over data without gradient: logits, losses and features of every example, over all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.auditing.subject import Subject
from holdfast.distributed import gather_objects
from holdfast.errors import DataError
from holdfast.measures.evaluation import evaluated, inputs_and_labels, outputs_of
from holdfast.measures.products import per_example
from holdfast.types import Batch

__all__ = ["Columns", "pass_over"]


class Columns(NamedTuple):
    """What is known of N examples, on the CPU, in rank order: logits (N, K), labels (N,), losses (N,), features (N, D) or None."""

    logits: Tensor
    labels: Tensor
    losses: Tensor
    features: Tensor | None

    @property
    def classified(self) -> bool:
        """Whether logits and labels are those of a classification, so that accuracy means something."""
        return self.logits.ndim == 2 and self.labels.ndim == 1 and not self.labels.is_floating_point()


def pass_over(
    subject: Subject, batches: Iterable[Batch], *, tensors: Mapping[str, Tensor] | None = None, features: bool = False
) -> Columns:
    """Run the network over this rank's batches and gather the rows of all ranks.

    Args:
        subject: The network, in eval mode.
        batches: This rank's share.
        tensors: Other values for parameters and buffers, by name.
        features: Whether the input of the head is caught.

    Raises:
        DataError: There is no example.
    """
    rows: list[tuple[Tensor, ...]] = []
    with evaluated(subject.net), torch.no_grad(), _catching(subject.net, subject.head_name if features else None) as caught:
        for batch in batches:
            inputs, labels = inputs_and_labels(batch, subject.device)
            logits = outputs_of(subject.net, tensors or {}, inputs)
            losses = per_example(subject.loss, logits, labels)
            columns = (_wide(logits), labels, _wide(losses), *(_wide(caught.pop()) for _ in range(len(caught[-1:]))))
            caught.clear()
            rows.append(tuple(column.cpu() for column in columns))
    parts = [part for part in gather_objects(_stacked(rows), subject.comm) if part]
    if not parts:
        raise DataError("there is no example to measure on; give at least one batch.")
    logits, labels, losses, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return Columns(logits, labels, losses, rest[0] if rest else None)


def _stacked(rows: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


@contextmanager
def _catching(net: nn.Module, head_name: str | None) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds what enters the head."""
    caught: list[Tensor] = []
    if head_name is None:
        yield caught
        return

    def keep(head: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs[0].detach())

    hook = net.get_submodule(head_name).register_forward_pre_hook(keep)
    try:
        yield caught
    finally:
        hook.remove()
