"""A network as curvature is measured on it: one fixed function of its weights that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ModelError
from holdfast.models.calling import arguments, logits_in
from holdfast.types import Batch

__all__ = ["evaluated", "inputs_and_labels", "outputs_of"]


@contextmanager
def evaluated(net: nn.Module) -> Iterator[None]:
    """Put a network into eval mode with attention and precision that allow second derivatives, and put everything back afterwards.

    Running statistics of BatchNorm are constants, dropout is off. Fused attention has no second derivative, so attention runs as plain
    matrix products, with memory quadratic in the sequence length. Autocast is off: a product with a Hessian is a difference of nearly
    equal gradients. Gradient mode is on, whatever surrounds the block.

    Raises:
        ModelError: A BatchNorm without running statistics makes each example's loss depend on the others.
    """
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"{name or 'the network'} is BatchNorm without running statistics, so a loss depends on the whole batch even in eval mode; "
                "build it with track_running_stats=True."
            )
    modes = [(module, module.training) for module in net.modules()]
    device = next((parameter.device.type for parameter in net.parameters()), "cpu")
    net.eval()
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, enabled=False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def inputs_and_labels(batch: Batch | tuple[Any, Tensor], device: torch.device) -> tuple[Any, Tensor]:
    """What goes into the network and the labels (B,), on ``device``; from a :class:`holdfast.types.Batch` or a pair."""
    inputs, labels = (batch.inputs, batch.labels) if isinstance(batch, Batch) else batch
    return _moved(inputs, device), labels.to(device)


def _moved(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _moved(value, device) for name, value in inputs.items()}
    return inputs.to(device) if isinstance(inputs, Tensor) else inputs


def outputs_of(net: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """Logits of a network with other values for its parameters.

    Args:
        net: The network; it may return a tensor, or something with the attribute ``logits``.
        tensors: Values by qualified parameter name; the others keep theirs.
        inputs: What its forward takes, a mapping as keyword arguments.
    """
    logits: Tensor = logits_in(torch.func.functional_call(net, dict(tensors), *arguments(inputs)))
    return logits
