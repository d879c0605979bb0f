"""The reference settings every ratio is stated for."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

from holdfast.models.load import load_pretrained

__all__ = ["SETTINGS", "Setting", "describe_machine"]


@dataclass(frozen=True)
class Setting:
    """A network, image size, batch size and class count.

    ``fixed_width`` puts a fixed random layer between features and head, to measure a method at another feature width on the same
    network; it is part of the bare step too.
    """

    name: str
    model: str
    image_size: int
    batch_size: int
    num_classes: int
    precision: str = "fp32"
    fixed_width: int | None = None

    def build(self, device: torch.device) -> nn.Module:
        """The network with its head for this setting, randomly initialised."""
        torch.manual_seed(0)
        net = load_pretrained(self.model, weights="random", image_size=self.image_size).net
        if self.fixed_width is not None:
            return _Widened(net, self.fixed_width, self.num_classes).to(device)
        net.reset_classifier(self.num_classes)  # type: ignore[operator]  # all of these are timm networks
        return net.to(device)

    def batch(self, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random images and labels."""
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(self.batch_size, 3, self.image_size, self.image_size, generator=generator)
        return inputs.to(device), torch.randint(self.num_classes, (self.batch_size,), generator=generator).to(device)

    def __str__(self) -> str:
        wide = f", fixed layer to D {self.fixed_width}" if self.fixed_width else ""
        return f"{self.name}: {self.model}, {self.image_size} px, batch {self.batch_size}, K {self.num_classes}{wide}, {self.precision}"


class _Widened(nn.Module):
    """A network whose features pass a fixed random layer and a ReLU before the head."""

    def __init__(self, net: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        features = net.get_classifier().in_features  # type: ignore[operator, union-attr]
        net.reset_classifier(0)  # type: ignore[operator]
        self.net = net
        self.register_buffer("projection", torch.randn(features, width) / features**0.5)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.net(inputs) @ self.projection))
        return logits


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("S", "timm:resnet18", 64, 64, 98),
        Setting("M", "demo:mobilenetv1-025", 128, 64, 98),
        Setting("M2048", "demo:mobilenetv1-025", 128, 64, 196, fixed_width=2048),
        Setting("G", "timm:resnet50", 224, 64, 196, precision="bf16"),
        Setting("V", "timm:vit_base_patch16_224", 224, 64, 196, precision="bf16"),
    )
}


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Hardware, threads and versions, to stand beside every number."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "device": hardware,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
    }
