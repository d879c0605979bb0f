"""Run a network once, on random images or a text, without leaving a trace: modes and random states are as before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.calling import arguments
from holdfast.types import InputSpec, TextSpec

__all__ = ["at_rest", "failed_forward", "head_input", "probe_inputs", "random_images"]


@contextmanager
def at_rest(net: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; afterwards every module's mode and the random states are restored."""
    modes = {module: module.training for module in net.modules()}
    devices = {parameter.device.index for parameter in net.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
        for module in modes:
            module.training = False
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def probe_inputs(net: nn.Module, spec: InputSpec | TextSpec) -> Any:
    """A batch of two that ``net`` can run on: random images, or a text as long as texts may be beside a short one."""
    if isinstance(spec, InputSpec):
        return random_images(net, spec.size)
    long, short = spec.tokenizer.encode([" ".join(["text"] * spec.max_length), "text"], spec.max_length)
    device = next(net.parameters()).device
    return {name: tensor.to(device) for name, tensor in spec.tokenizer.batch([long, short]).items()}


def random_images(net: nn.Module, size: int, count: int = 2) -> Tensor:
    """Standard normal images (count, 3, size, size) of the type and on the device of the network; always the same."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    parameter = next((parameter for parameter in net.parameters() if parameter.is_floating_point()), None)
    return images if parameter is None else images.to(parameter.device, parameter.dtype)


def head_input(net: nn.Module, head_name: str, inputs: Any) -> Tensor:
    """What reaches the layer ``head_name`` when ``net`` runs on a batch.

    Raises:
        ModelError: The network fails on such inputs, or the layer takes no part.
    """
    seen: list[Tensor] = []
    handle = net.get_submodule(head_name).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    positional, keywords = arguments(inputs)
    try:
        net(*positional, **keywords)
    except Exception as error:  # a network of the user may fail in any way
        raise failed_forward(inputs, error) from error
    finally:
        handle.remove()
    if not seen:
        raise ModelError(f"--head {head_name!r}: this layer takes no part in the forward pass; name the final Linear layer")
    return seen[-1]


def failed_forward(inputs: Any, error: Exception) -> ModelError:
    """The sentence for a network that cannot run on a batch."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(inputs, Mapping):
        tokens = max((tensor.shape[-1] for tensor in inputs.values()), default=0)
        return ModelError(f"the network failed on texts of {tokens} tokens ({reason}); try a smaller --max-length, or check the network")
    shape = " x ".join(str(side) for side in inputs.shape)
    return ModelError(f"the network failed on images of shape {shape} ({reason}); try another --image-size, or check the network")
