"""Dropout directly in front of the head would hide features from every method: find it and set it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.models.probe import at_rest, head_input, probe_inputs
from holdfast.types import InputSpec, TextSpec

__all__ = ["set_head_dropout"]

PROBE_RATE = 0.9


def set_head_dropout(net: nn.Module, head_name: str, rate: float | None, spec: InputSpec | TextSpec) -> list[str]:
    """Set the dropout whose output is the input of the head.

    It is found by running the network: an ``nn.Dropout`` whose output reaches the head unchanged, or an attribute ``drop_rate`` (timm's
    convention) that makes features vanish.

    Args:
        net: The bare network, changed in place.
        head_name: Qualified name of its head.
        rate: The user's rate; None for 0.
        spec: What images or texts the network expects.

    Returns:
        What was changed, in words.

    Raises:
        ConfigError: A rate above 0 is asked for and there is no dropout to set.
        ModelError: The network cannot run on such inputs.
    """
    with at_rest(net):
        inputs = probe_inputs(net, spec)
        layers = _layers_in_front(net, head_name, inputs)
        owners = _owners_in_front(net, head_name, inputs)
    wanted = rate or 0.0
    if wanted and not layers and not owners:
        raise ConfigError(
            f"--head-dropout {wanted:g}: the network has no dropout in front of its head {head_name!r} that could be set; leave it out"
        )
    before = max([layer.p for layer in layers] + [float(owner.drop_rate) for owner in owners], default=0.0)  # type: ignore[arg-type]
    for layer in layers:
        layer.p = wanted
    for owner in owners:
        owner.drop_rate = wanted  # type: ignore[assignment]
    notes = [f"head dropout {before:g} set to {wanted:g}"] if before != wanted else []
    if not wanted and _still_dropped(net, head_name, inputs):
        notes.append(
            "the network drops features in front of its head during training by its own code, which holdfast cannot switch off: "
            "methods see features with holes; use nn.Dropout there"
        )
    return notes


def _layers_in_front(net: nn.Module, head_name: str, inputs: Any) -> list[nn.Dropout]:
    """Dropout layers whose output is what the head receives."""
    layers = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    rates = [layer.p for layer in layers]
    outputs: dict[nn.Dropout, Tensor] = {}
    handles = [layer.register_forward_hook(lambda module, given, output: outputs.update({module: output})) for layer in layers]
    for layer in layers:
        layer.p, layer.training = PROBE_RATE, True
    try:
        pooled = head_input(net, head_name, inputs)
    finally:
        for layer, rate, handle in zip(layers, rates, handles, strict=True):
            layer.p, layer.training = rate, False
            handle.remove()
    # Flattening in between changes the shape but not the memory.
    return [layer for layer, output in outputs.items() if output.untyped_storage().data_ptr() == pooled.untyped_storage().data_ptr()]


def _owners_in_front(net: nn.Module, head_name: str, inputs: Any) -> list[nn.Module]:
    """Modules around the head whose ``drop_rate`` makes features vanish."""
    whole = head_input(net, head_name, inputs)
    owners = []
    for module in _around(net, head_name):
        rate = getattr(module, "drop_rate", None)
        if isinstance(rate, (int, float)):
            module.drop_rate, module.training = PROBE_RATE, True  # type: ignore[assignment]
            if _has_holes(head_input(net, head_name, inputs), whole):
                owners.append(module)
            module.drop_rate, module.training = rate, False  # type: ignore[assignment]
    return owners


def _still_dropped(net: nn.Module, head_name: str, inputs: Any) -> bool:
    """Whether features vanish although nothing but the modules around the head is in train mode."""
    with at_rest(net):
        whole = head_input(net, head_name, inputs)
        for module in _around(net, head_name):
            module.training = True
        return _has_holes(head_input(net, head_name, inputs), whole)


def _around(net: nn.Module, head_name: str) -> list[nn.Module]:
    parts = head_name.split(".")
    return [net.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]


def _has_holes(features: Tensor, whole: Tensor) -> bool:
    return features.shape == whole.shape and bool(((features == 0) & (whole != 0)).any())
