"""BatchNorm statistics of averaged weights, which are not the average of the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["differing_statistics", "reestimate"]


def differing_statistics(states: Sequence[Mapping[str, Tensor]]) -> set[str]:
    """Names of the BatchNorm layers whose running statistics are not the same in all state dicts: those that training moved."""
    first = states[0]
    names = [name for name in first if name.endswith((".running_mean", ".running_var"))]
    return {
        name.rpartition(".")[0] for name in names if any(name in state and not torch.equal(state[name], first[name]) for state in states)
    }


@torch.no_grad()
def reestimate(net: nn.Module, layers: Iterable[str], batches: Iterable[Any], run: Any) -> None:
    """Give BatchNorm layers the mean statistics of some batches, seen by the network as it is now.

    All other layers stay in eval mode, so that dropout and frozen statistics have no part in it. A last batch that is smaller than the
    first is left out: its statistics would count as much.

    Args:
        net: The network, changed in place; it is left in eval mode.
        layers: Names of the layers.
        batches: Inputs, at least one batch of two examples.
        run: Called with the inputs of a batch, it makes a forward pass.
    """
    net.eval()
    moving = [layer for name in sorted(layers) if isinstance(layer := net.get_submodule(name), _BatchNorm)]
    momenta = [layer.momentum for layer in moving]
    for layer in moving:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        nn.Module.train(layer, True)  # a layer that was frozen for training refuses this on its own
    size = None
    for batch in batches:
        size = size or len(batch)
        if len(batch) == size:
            run(batch.inputs)
    for layer, momentum in zip(moving, momenta, strict=True):
        layer.momentum = momentum
    net.eval()
