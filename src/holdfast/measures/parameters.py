"""The weight tensors that curvature is taken in: each tensor once, however many names it has, at its place in one long vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError, ModelError, ShapeError, suggest

__all__ = ["Block", "WeightBlocks"]


@dataclass(frozen=True)
class Block:
    """One weight tensor: its ``name`` (the first, where tied), ``shape``, all its ``names``, and the range of the flat vector it fills."""

    name: str
    shape: torch.Size
    start: int
    stop: int
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.stop - self.start


class WeightBlocks:
    """Chosen weight tensors of a network, and vectors over all of them, flattened row by row in their order.

    Two names are one block where they hold one tensor, or two parameters over the same memory.

    Args:
        net: The network.
        names: Qualified parameter names in the order of the vector; None takes every parameter that requires a gradient.

    Raises:
        ConfigError: A name is unknown or its tensor named twice, or nothing is left to measure.
        ModelError: Weights are of half precision or of several types, or share memory in different shapes.
    """

    def __init__(self, net: nn.Module, names: Sequence[str] | None = None) -> None:
        self.net = net
        self._parameters = dict(net.named_parameters(remove_duplicate=False))
        self._names = _names_by_memory(self._parameters)
        chosen = self._trainable() if names is None else self._named(names)
        if not chosen:
            raise ConfigError("layers: no parameter is left to measure: every one is frozen; name those to measure.")
        start, blocks = 0, []
        for name in chosen:
            shape = self._parameters[name].shape
            blocks.append(Block(name, shape, start, start + shape.numel(), self._names[name]))
            start += shape.numel()
        self.blocks = tuple(blocks)
        self.size = start
        self.dtype, self.device = self._common_type()

    def leaves(self) -> list[Tensor]:
        """The blocks' present values as leaves that require a gradient, in the memory of the parameters, which get no gradient."""
        return [self._parameters[block.name].detach().requires_grad_() for block in self.blocks]

    def substitution(self, leaves: Iterable[Tensor]) -> dict[str, Tensor]:
        """Values for every parameter of the network: the leaves under all names of their block, the others as constants."""
        values = {name: parameter.detach() for name, parameter in self._parameters.items()}
        for block, leaf in zip(self.blocks, leaves, strict=True):
            values |= dict.fromkeys(block.names, leaf)
        return values

    def split(self, vector: Tensor) -> list[Tensor]:
        """The parts of a flat vector (P,) or of each row of (m, P), in the shapes of the blocks."""
        if vector.shape[-1] != self.size:
            raise ShapeError(f"a vector over these weights has {self.size} entries, got {tuple(vector.shape)}.")
        parts = vector.split([block.size for block in self.blocks], dim=-1)
        return [part.reshape(*vector.shape[:-1], *block.shape) for part, block in zip(parts, self.blocks, strict=True)]

    def position(self, name: str) -> int:
        """The number of the block with that name, which may be any of a tied tensor's.

        Raises:
            ConfigError: There is no such block.
        """
        for number, block in enumerate(self.blocks):
            if name in block.names:
                return number
        raise ConfigError(f"layers: {name!r} is not measured here. {suggest(name, [block.name for block in self.blocks])}")

    def _trainable(self) -> list[str]:
        return [name for name, parameter in self._parameters.items() if parameter.requires_grad and self._names[name][0] == name]

    def _named(self, names: Sequence[str]) -> list[str]:
        for name in names:
            if name not in self._parameters:
                raise ConfigError(f"layers: the network has no parameter {name!r}. {suggest(name, self._parameters)}")
        firsts = [self._names[name][0] for name in names]
        twice = next((name for name, first in zip(names, firsts, strict=True) if firsts.count(first) > 1), None)
        if twice is not None:
            raise ConfigError(f"layers: {twice!r} is named twice; the names {', '.join(self._names[twice])} are one tensor.")
        return firsts

    def _common_type(self) -> tuple[torch.dtype, torch.device]:
        tensors = [self._parameters[block.name] for block in self.blocks]
        kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
        if len(kinds) > 1:
            raise ModelError(f"weights are of several types or devices ({', '.join(sorted(map(str, kinds)))}); convert the network to one.")
        dtype, device = kinds.pop()
        if dtype not in (torch.float32, torch.float64):
            raise ModelError(f"curvature needs weights of float32 or float64, got {dtype}; convert the network with .float().")
        return dtype, device


def _names_by_memory(parameters: dict[str, nn.Parameter]) -> dict[str, tuple[str, ...]]:
    """For each name, all names of the same memory, in the order of the network."""
    shared: dict[object, list[str]] = {}
    for name, parameter in parameters.items():
        key = (parameter.device, parameter.data_ptr()) if parameter.numel() else name
        shared.setdefault(key, []).append(name)
    for names in shared.values():
        forms = {(parameters[name].shape, parameters[name].stride()) for name in names}
        if len(forms) > 1:
            raise ModelError(
                f"{' and '.join(names)} share memory in different shapes, which cannot be told apart in a derivative; copy one."
            )
    return {name: tuple(names) for names in shared.values() for name in names}
