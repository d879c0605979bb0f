"""From 8-bit pixels to what a network expects."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from holdfast.types import InputSpec

__all__ = ["Normalizer", "effective_spec"]


def effective_spec(spec: InputSpec, normalization: str) -> InputSpec:
    """What images a run uses: the network's own statistics, or mean = std = 0.5 under ``--normalization half``."""
    return replace(spec, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) if normalization == "half" else spec


class Normalizer:
    """``(x / 255 - mean) / std`` by channel, in float32, on whatever device the pixels are."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._statistics: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S), float32, from uint8 ones."""
        mean, std = self._on(pixels.device)
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._statistics:
            values = torch.tensor([self._spec.mean, self._spec.std], dtype=torch.float32).view(2, 3, 1, 1).to(device)
            self._statistics[device] = (values[0], values[1])
        return self._statistics[device]
