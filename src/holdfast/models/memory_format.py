"""Whether maps lie channels last in memory: faster where convolutions meet BatchNorm, slower or nothing gained elsewhere."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["prefers_channels_last", "to_channels_last"]


def prefers_channels_last(net: nn.Module, *, device: str, precision: str) -> bool:
    """Whether training steps of ``net`` are expected to be faster channels last.

    On CPUs in float32, convolutional networks with BatchNorm took 0 to 30 % less time (``python -m benchmarks.channels_last``); those
    with layer normalisation gained nothing, nor does the one convolution of a vision transformer. On GPUs the tensor cores that half
    precision runs on read maps channels last; in float32 nothing is gained for certain.

    Args:
        net: The bare network.
        device: Type of the device, such as ``cpu``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """
    if device == "cpu":
        return precision == "fp32" and any(isinstance(module, _BatchNorm) for module in net.modules())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    return precision != "fp32" and convolutions > 1


def to_channels_last(net: nn.Module) -> None:
    """Store the weights of convolutions channels last.

    Names and values stay as they are. Nothing has to be done to the images: a convolution whose weights are channels last returns its map
    so, and what follows keeps to it; torch converts the first layer's input, of three channels, by itself.
    """
    net.to(memory_format=torch.channels_last)
