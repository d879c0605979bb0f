"""Put the tensors of a weights file into a network: head of any class count, and a clear word where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from holdfast.errors import CheckpointError

__all__ = ["Adapt", "Loaded", "load_tensors"]

Adapt = Callable[[nn.Module, Mapping[str, Tensor]], "dict[str, Tensor] | None"]
"""Converts tensors to the form of a network (another image size, older names), or gives None where it cannot."""

COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Loaded:
    """How the tensors were taken over: whether they brought a head, and whether they had to be converted."""

    source_head: bool
    converted: bool


@dataclass(frozen=True)
class Mismatch:
    """Where tensors and network differ: names, and for other shapes a text for each."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.shapes}
        return "; ".join(
            f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" for kind, names in kinds.items() if names
        )


def load_tensors(net: nn.Module, head_name: str, tensors: Mapping[str, Tensor], adapt: Adapt, *, label: str, model: str) -> Loaded:
    """Load ``tensors`` into ``net``; its head gets as many outputs as theirs, or stays fresh where they bring none.

    Args:
        net: The bare network, changed in place.
        head_name: Qualified name of its head.
        tensors: Named tensors of a file.
        adapt: Tried where they do not fit as they are.
        label: What to call the tensors in messages.
        model: The model as the user typed it.

    Raises:
        CheckpointError: They are not weights of this network; says how many are missing, unexpected or of another shape.
    """
    stripped = _without_wrapper(tensors, net)
    complete, source_head = _with_head(net, head_name, stripped)
    mismatch = _compare(net, complete)
    converted = False
    if mismatch:
        adapted = adapt(net, stripped)
        if adapted is not None:
            given = {id(value) for value in stripped.values()}
            converted = any(id(value) not in given for value in adapted.values())  # other names alone are no news
            complete, source_head = _with_head(net, head_name, adapted)
            mismatch = _compare(net, complete)
    if mismatch:
        raise CheckpointError(
            f"{label} does not fit {model}, tensors: {mismatch}; give weights of this network, or change --model or --image-size"
        )
    own = net.state_dict()
    net.load_state_dict({name: value for name, value in complete.items() if name in own})
    return Loaded(source_head, converted)


def _without_wrapper(tensors: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Drop what DDP (``module.``), torch.compile (``_orig_mod.``) or a training script put in front of every name."""
    own = {name.partition(".")[0] for name in net.state_dict()}
    stripped = dict(tensors)
    while True:
        first = {name.partition(".")[0] for name in stripped}
        if len(first) != 1 or first & own or not all("." in name for name in stripped):
            return stripped
        stripped = {name.partition(".")[2]: value for name, value in stripped.items()}


def _with_head(net: nn.Module, head_name: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Tensors with a head, and whether it is their own: ``net`` gets as many outputs as they have, or lends its fresh head."""
    head = net.get_submodule(head_name)
    assert isinstance(head, nn.Linear)
    weight = tensors.get(f"{head_name}.weight")
    if weight is None:
        return tensors | {f"{head_name}.{name}": value for name, value in head.state_dict().items()}, False
    bias = f"{head_name}.bias" in tensors
    if weight.ndim == 2 and weight.shape[1] == head.in_features and (len(weight) != head.out_features or bias != (head.bias is not None)):
        net.set_submodule(head_name, nn.Linear(head.in_features, len(weight), bias=bias))
    return tensors, True


def _compare(net: nn.Module, tensors: Mapping[str, Tensor]) -> Mismatch:
    """Differences apart from BatchNorm's counters: older files lack them, torch fills them in, and nothing depends on them."""
    own = net.state_dict()
    return Mismatch(
        missing=[name for name in own if name not in tensors and not name.endswith(COUNTER)],
        unexpected=[name for name in tensors if name not in own and not name.endswith(COUNTER)],
        shapes=[
            f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(value.shape)} in the network"
            for name, value in own.items()
            if name in tensors and tensors[name].shape != value.shape
        ],
    )
