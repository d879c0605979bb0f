"""The Hessian of a small network by definition, to compare with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Dense:
    """The Hessian of the mean cross-entropy in some of the weights, in float64."""

    net: nn.Module
    batches: list[tuple[Any, Tensor]]
    names: tuple[str, ...]

    @cached_property
    def blocks(self) -> list[list[Tensor]]:
        """H_ij of each pair of weights, as matrices."""
        net = copy.deepcopy(self.net).double().eval()
        chosen = [net.get_parameter(name) for name in self.names]
        losses = []
        for inputs, labels in self.batches:
            output = net(**inputs) if isinstance(inputs, Mapping) else net(inputs.double())
            losses.append(nn.functional.cross_entropy(getattr(output, "logits", output), labels, reduction="none"))
        slopes = torch.autograd.grad(torch.cat(losses).mean(), chosen, create_graph=True)
        return [self._rows(slope, chosen) for slope in slopes]

    def _rows(self, slope: Tensor, chosen: list[nn.Parameter]) -> list[Tensor]:
        found = [
            torch.autograd.grad(entry, chosen, retain_graph=True, allow_unused=True, materialize_grads=True) for entry in slope.flatten()
        ]
        return [torch.stack([row[j].flatten() for row in found]) for j in range(len(chosen))]

    @property
    def whole(self) -> Tensor:
        """The matrix over all of them."""
        return torch.cat([torch.cat(row, dim=1) for row in self.blocks])


def positive(matrix: Tensor) -> Tensor:
    """The matrix with its negative eigenvalues set to 0."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors @ torch.diag(values.clamp_min(0)) @ vectors.T
