"""Networks for ``python:`` specs in tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear_net(num_classes: int = 5) -> nn.Module:
    """Average colour to ``num_classes``; the smallest network with a head."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, num_classes))


def with_config() -> nn.Module:
    net = linear_net()
    net.pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    return net


def needs_classes(num_classes: int) -> nn.Module:
    return linear_net(num_classes)


def needs_width(width: int) -> nn.Module:
    return nn.Linear(width, 2)


def no_network() -> str:
    return "net"


def breaks() -> nn.Module:
    raise RuntimeError("no luck")


class Dropping(nn.Module):
    """Drops features by its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear(48, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.dropout(self.pool(images).flatten(1), 0.5, self.training))


class TokenHead(nn.Module):
    """A head that works on every token: features (B, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images).flatten(2).transpose(1, 2))


class ScaledLogits(nn.Module):
    """Something follows the last Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.body = linear_net()

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.body(images)


class UnusedLinear(nn.Module):
    """The last Linear is not part of the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = linear_net()
        self.projector = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class TwoOutputs(nn.Module):
    """Returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.body = linear_net()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(images)
        return logits, logits
