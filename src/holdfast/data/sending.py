"""From main memory to where the network is."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["to_device"]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of this machine's memory on ``device``; a GPU takes it while it works on something else."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values
