"""What is audited: a network, where it started, its data, and what to call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.measures.products import Loss
from holdfast.types import Batch, Comm

__all__ = ["DESCRIPTION", "Examples", "Subject", "start_for"]

DESCRIPTION = (
    *("run", "model", "source", "data", "method", "classes", "parameters"),
    *("reference_fingerprint", "data_fingerprint", "split"),
)
"""Keys of the section ``subject`` of ``audit.json``."""


class Examples(Protocol):
    """Un-augmented examples by split; :class:`holdfast.data.RunData` is one."""

    def has(self, split: str) -> bool:
        """Whether there is such a split."""

    def size(self, split: str) -> int:
        """Examples of a split, 0 where there is none."""

    def batches(
        self, split: str, *, batch_size: int | None = None, rank: int = 0, size: int = 1, device: torch.device | str = "cpu"
    ) -> Iterable[Batch]:
        """This rank's share of a split, every example once over all ranks."""

    def sample(
        self,
        split: str,
        most: int,
        *,
        seed: int,
        batch_size: int | None = None,
        rank: int = 0,
        size: int = 1,
        device: torch.device | str = "cpu",
    ) -> Iterable[Batch]:
        """As :meth:`batches`, of at most ``most`` examples drawn by ``seed``, the same for any number of ranks."""


@dataclass(frozen=True)
class Subject:
    """A network to audit, on its device.

    Args:
        net: The bare network, in eval mode, float32 or float64.
        head_name: Qualified name of its final Linear, None where it has none.
        start: Parameters and buffers at the start by their names in ``net``; the head's may be missing. None where they are not known.
        loss: Logits and labels to the loss of each example.
        loss_name: What to call it.
        data: The examples.
        classes: Names of the classes, where they are known.
        comm: Communication with the other ranks, which audit the same network on their share of the data.
        description: What is known of the keys of the section ``subject``.
        notes: Sentences the reader should know.
    """

    net: nn.Module
    head_name: str | None
    start: Mapping[str, Tensor] | None
    loss: Loss
    loss_name: str
    data: Examples
    classes: tuple[str, ...]
    comm: Comm
    description: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    @property
    def held_out(self) -> str | None:
        """The split that the gap is taken to: test, or val where there is no test, or None."""
        return next((split for split in ("test", "val") if self.data.has(split)), None)

    @property
    def has_start_of_head(self) -> bool:
        """Whether the head's initial value is known, and of the head's shape."""
        if self.start is None or self.head_name is None:
            return False
        name = f"{self.head_name}.weight"
        return name in self.start and self.start[name].shape == self.net.get_parameter(name).shape

    def sample(self, most: int, seed: int, batch_size: int, *, split: str = "train") -> list[Batch]:
        """This rank's part of at most ``most`` examples of a split, in batches."""
        return list(
            self.data.sample(split, most, seed=seed, batch_size=batch_size, rank=self.comm.rank, size=self.comm.size, device=self.device)
        )

    def record(self) -> dict[str, Any]:
        """The section ``subject`` of ``audit.json``."""
        known = {
            "classes": list(self.classes),
            "parameters": sum(parameter.numel() for parameter in self.net.parameters()),
            "split": "train",
            **self.description,
        }
        return {key: known.get(key) for key in DESCRIPTION}


def start_for(net: nn.Module, head_name: str | None, start: Mapping[str, Tensor], *, label: str) -> dict[str, Tensor]:
    """What a start says of the tensors of a network, of their type and on their device; a head of another shape is left out.

    Args:
        net: The network.
        head_name: Its head.
        start: Parameters and buffers by name.
        label: What the user typed for the start, for messages.

    Raises:
        ModelError: The start is of another architecture.
    """
    found, misfits = {}, []
    for name, own in net.state_dict().items():
        if name in start and start[name].shape == own.shape:
            found[name] = start[name].detach().to(own.device, own.dtype)
        elif own.is_floating_point() and not (head_name is not None and name.startswith(f"{head_name}.")):
            misfits.append(name)
    if misfits:
        raise ModelError(
            f"{label}: this is a start of another architecture: it lacks {len(misfits)} tensors of the network, or has them in another "
            f"shape ({', '.join(misfits[:3])}{', ...' * (len(misfits) > 3)}); give the weights that fine-tuning started from."
        )
    return found
