"""An exponential moving average of the network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.models.shards import in_parts_like, own_part

__all__ = ["WeightAverage", "decay_at"]


def decay_at(update: int, decay: float) -> float:
    """Decay of the average at an update, counted from 1: ``min(decay, (1 + t)/(10 + t))``.

    The warm-up of TensorFlow's moving averages: an average that began with full decay would remember the pretrained weights and the
    fresh head for ``1/(1 - decay)`` updates, often longer than a fine-tuning lasts.

    Example:
        >>> [round(decay_at(update, 0.99), 3) for update in (1, 10, 100, 1000)]
        [0.182, 0.55, 0.918, 0.99]
    """
    return min(decay, (1 + update) / (10 + update))


class WeightAverage:
    """The moving average ``a ← d·a + (1 - d)·w`` of all trained weights of a network, in float32.

    Buffers are not averaged: the averaged network uses the BatchNorm statistics of the trained one, as torch's own averaged models do.
    Frozen parameters are what they are.

    Args:
        net: The network, on its device; parameters without gradient are left out.
        decay: d after the warm-up, see :func:`decay_at`.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._net = net
        self._trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        self._average = {name: parameter.detach().float().clone() for name, parameter in self._trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an applied update."""
        self.updates += 1
        weights = [own_part(parameter).float() for parameter in self._trained.values()]
        averages = [own_part(average) for average in self._average.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay_at(self.updates, self.decay))

    def weights(self) -> dict[str, Tensor]:
        """The network's state dict with the averages in place of what is trained, under all names of tied weights."""
        averages = {id(self._trained[name]): average for name, average in self._average.items()}
        state: dict[str, Tensor] = self._net.state_dict(keep_vars=True)
        return {name: averages.get(id(tensor), tensor).detach().to(tensor.dtype) for name, tensor in state.items()}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the network inside the block; afterwards it has its own weights again, bit for bit."""
        own = [parameter.detach().clone() for parameter in self._trained.values()]
        self._fill(list(self._average.values()))
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, tensors: list[Tensor]) -> None:
        torch._foreach_copy_([own_part(parameter) for parameter in self._trained.values()], [own_part(tensor) for tensor in tensors])

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many updates they have seen, for a checkpoint."""
        return {"updates": self.updates, "weights": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.updates = state["updates"]
        for name, average in self._average.items():
            average.copy_(in_parts_like(state["weights"][name], average))
