"""Run a network once, on random images, without leaving a trace: modes and random states are as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError

__all__ = ["at_rest", "head_input", "random_images"]


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


def random_images(net: nn.Module, size: int, count: int = 2) -> Tensor:
    """Standard normal images (count, 3, size, size) of the type and on the device of the network; always the same."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    parameter = next((parameter for parameter in net.parameters() if parameter.is_floating_point()), None)
    return images if parameter is None else images.to(parameter.device, parameter.dtype)


def head_input(net: nn.Module, head_name: str, images: Tensor) -> Tensor:
    """What reaches the layer ``head_name`` when ``net`` runs on ``images``.

    Raises:
        ModelError: The network fails on such images, or the layer takes no part.
    """
    seen: list[Tensor] = []
    handle = net.get_submodule(head_name).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        net(images)
    except Exception as error:  # a network of the user may fail in any way
        raise failed_forward(images, error) from error
    finally:
        handle.remove()
    if not seen:
        raise ModelError(f"--head {head_name!r}: this layer takes no part in the forward pass; name the final Linear layer")
    return seen[-1]


def failed_forward(images: Tensor, error: Exception) -> ModelError:
    """The sentence for a network that cannot run on ``images``."""
    shape = " x ".join(str(side) for side in images.shape)
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(f"the network failed on images of shape {shape} ({reason}); try another --image-size, or check the network")
