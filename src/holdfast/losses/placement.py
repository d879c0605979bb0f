"""Where the state of a loss lives, and in which type: with the network."""

from __future__ import annotations

import torch

from holdfast.types import Source

__all__ = ["device_of", "dtype_of"]


def device_of(source: Source) -> torch.device:
    """The device of the network."""
    return next(iter(source.reference.weights.values())).device


def dtype_of(source: Source) -> torch.dtype:
    """The type its losses have: that of its weights, float32 at least."""
    kinds = [weight.dtype for weight in source.reference.weights.values() if weight.is_floating_point()]
    return torch.promote_types(kinds[0], torch.float32)
