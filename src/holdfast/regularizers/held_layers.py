"""Which layers of a network are held near their start, each with its start and its radius."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from holdfast.checks import numbers_by_pattern
from holdfast.errors import ConfigError
from holdfast.models.select import layer_depths, match_parameters, measured_layers
from holdfast.models.shards import names_of, own_part, trained_parameters
from holdfast.types import Step

__all__ = ["HeldBatchNorm", "HeldLayer", "HeldLayers", "Selection", "hold"]

EXCEPT = "!"
"""Stands between a pattern and one whose matches are left out of it."""


@dataclass(frozen=True)
class Selection:
    """Layers by patterns on their names, each pattern with a number.

    Args:
        numbers: The numbers, such as radii, by pattern; ``*`` for all layers. A pattern is one of
            :func:`holdfast.models.select.match_parameters`; ``encoder!*attention*`` is what the first matches and the second does not.
        option: What the user typed the patterns after, for messages.
        embeddings: Whether tables of embeddings are layers too.
        bn: Whether BatchNorm layers are layers too.
        overlap: Whether several patterns may match one layer, since they all have one number.
    """

    numbers: Mapping[str, float]
    option: str
    embeddings: bool = False
    bn: bool = False
    overlap: bool = False

    @classmethod
    def of_text(cls, numbers: str, layers: str, *, option: str, embeddings: bool = False, bn: bool = False) -> Selection:
        """From options: a number for the ``layers`` (patterns joined by commas, or ``all``), or numbers by pattern.

        Raises:
            ConfigError: ``numbers`` says which layers, and ``layers`` too.
        """
        try:
            found = numbers_by_pattern(numbers)
        except ValueError:
            raise ConfigError(f"{option} {numbers!r}: expected a number, or several by name as layer3=0.5,layer4=1.") from None
        if any(number < 0 for number in found.values()):
            raise ConfigError(f"{option} {numbers!r}: expected numbers of at least 0.")
        of_layers = f"{option.rpartition('.')[0]}.layers"
        if layers == "all":
            return cls(found, option, embeddings, bn)
        if "=" in numbers:
            shown = of_layers.rpartition(" ")[2]
            raise ConfigError(f"{option} {numbers!r} says which layers it is for; leave out {shown} {layers!r}.")
        option = of_layers
        return cls(dict.fromkeys(map(str.strip, layers.split(",")), found["*"]), option, embeddings, bn, overlap=True)

    def of(self, net: nn.Module) -> dict[str, float]:
        """The number of each layer of a network, by the name of its weight.

        Raises:
            ConfigError: A pattern matches nothing, or no layer; two patterns match the same layer.
        """
        names = _weights(net, embeddings=self.embeddings) + [f"{path}.weight" for path, _ in batchnorms(net) if self.bn]
        chosen: dict[str, tuple[str, float]] = {}
        for pattern, number in self.numbers.items():
            matched = _matched(net, pattern, self.option)
            found = [name for name in names if name in matched]
            if not found:
                raise ConfigError(f"{self.option} {pattern!r} matches parameters but no layer; layers are {', '.join(names[:12])}.")
            for name in found:
                other, before = chosen.setdefault(name, (pattern, number))
                if other != pattern and not self.overlap:
                    raise ConfigError(
                        f"{self.option}: the patterns {other!r} and {pattern!r} both match {name}, with {before:g} and {number:g}; "
                        f"leave out of one what the other takes, as in '{other}{EXCEPT}{pattern}={before:g}'."
                    )
        return {name: chosen[name][1] for name in names if name in chosen}


@dataclass(frozen=True)
class HeldLayer:
    """A trained weight and where it is held: its ``start``, or 0 where that is None; ``number`` as selected, e.g. its radius."""

    name: str
    weight: nn.Parameter
    start: Tensor | None
    number: float
    groups: int = 0  # of a transposed convolution

    @property
    def rows(self) -> int:
        """How many leading axes of :meth:`by_row` count outputs."""
        return 2 if self.groups else 1

    def by_row(self, tensor: Tensor) -> Tensor:
        """A view of a tensor in the shape of the weight, outputs first."""
        return tensor.unflatten(0, (self.groups, -1)).movedim(2, 1) if self.groups else tensor


@dataclass(frozen=True)
class HeldBatchNorm:
    """A BatchNorm layer with trained scales (``weight``), and its scales and running variance at the start."""

    name: str
    layer: _BatchNorm
    weight: nn.Parameter
    start: Tensor
    start_variance: Tensor
    number: float

    @property
    def variance(self) -> Tensor:
        """The running variance now."""
        assert self.layer.running_var is not None
        return self.layer.running_var


@dataclass(frozen=True)
class HeldLayers:
    """What is held in one network: layers of the backbone, its BatchNorm layers, and what has no start, the head above all."""

    layers: tuple[HeldLayer, ...]
    batchnorms: tuple[HeldBatchNorm, ...]
    new: tuple[HeldLayer, ...]


def hold(step: Step, selection: Selection, *, scale_by_depth: float = 1.0) -> HeldLayers:
    """The layers of the network in a step with their starts.

    Frozen weights are left out, tied ones are there once. The starts are the reference's own tensors, not copies; where the weights are
    spread over ranks, this rank's parts of them. A layer whose name or shape the reference does not know is new, as the head is; its
    number is 0.
    """
    net, weights = step.model, step.reference.weights
    numbers = selection.of(net)
    factors = _depth_factors(net, step.head, scale_by_depth)
    owners, parameters, head = _owners(net), trained_parameters(net), names_of(net, step.head)
    held, new = [], []
    for name in _weights(net, embeddings=selection.embeddings):
        parameter, start = parameters[name], weights.get(name)
        if not parameter.requires_grad:
            continue
        groups = _groups(owners[name])
        if name in head or start is None or start.shape != parameter.shape:
            new.append(HeldLayer(name, parameter, None, 0.0, groups))
        elif name in numbers:
            held.append(HeldLayer(name, parameter, _beside(start, parameter), numbers[name] * factors[name], groups))
    layers = []
    for path, module in batchnorms(net):
        name, variance = f"{path}.weight", weights.get(f"{path}.running_var")
        start = weights.get(name)
        if name in numbers and module.weight.requires_grad and start is not None and variance is not None:
            start, variance = _beside(start, parameters[name]), _beside(variance, parameters[name])
            layers.append(HeldBatchNorm(name, module, parameters[name], start, variance, numbers[name] * factors[name]))
    return HeldLayers(tuple(held), tuple(layers), tuple(new))


def _beside(start: Tensor, parameter: nn.Parameter) -> Tensor:
    """This rank's part of a start, where its part of the parameter is and of its type."""
    return own_part(start).to(own_part(parameter.detach()))


def batchnorms(net: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """BatchNorm layers that have scales and running statistics."""
    for path, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.affine and module.running_var is not None:
            yield path, module


def _weights(net: nn.Module, *, embeddings: bool) -> list[str]:
    """Names of the weights that can be held, frozen or not, in the order of the network."""
    tables = [f"{path}.weight" for path, module in net.named_modules() if isinstance(module, nn.Embedding)] if embeddings else []
    layers = {*measured_layers(net, frozen=True), *tables}
    return [name for name, _ in net.named_parameters() if name in layers]  # of tied weights the first name


def _owners(net: nn.Module) -> dict[str, nn.Module]:
    return {
        f"{path}.{name}" if path else name: module
        for path, module in net.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


def _groups(owner: nn.Module) -> int:
    return owner.groups if isinstance(owner, _ConvTransposeNd) else 0


def _matched(net: nn.Module, pattern: str, option: str) -> set[str]:
    taken, _, left_out = pattern.partition(EXCEPT)
    matched = match_parameters(net, [taken.strip()], option=option)
    return matched - match_parameters(net, [left_out.strip()], option=option) if left_out else matched


def _depth_factors(net: nn.Module, head: nn.Linear, scale: float) -> dict[str, float]:
    """1 in the first half of the network, ``scale`` in its third quarter, ``scale``² in its last.

    In residual networks with stages ``layer1`` to ``layer4`` those are the quarters, as in Ju et al.; what stands before them is in the
    first. In others quarters are counted in blocks.
    """
    names = [name for name, _ in net.named_parameters()]
    if scale == 1:
        return dict.fromkeys(names, 1.0)
    stages = {name: re.search(r"(?:^|\.)layer([1-4])\.", name) for name in names}
    if any(stages.values()):
        quarters = {name: int(stage[1]) if stage else 1 for name, stage in stages.items()}
    else:
        depths = layer_depths(net, next(path for path, module in net.named_modules() if module is head))
        deepest = max(depths.values())
        quarters = {name: min(4, 4 * depth // max(deepest, 1) + 1) for name, depth in depths.items()}
    return {name: scale ** max(0, quarter - 2) for name, quarter in quarters.items()}
