"""Small members of the families that must all pass the same tests, with random weights."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from holdfast.models.load import Pretrained, load_pretrained

TORCHVISION_VIT = Path(__file__).parent / "small_networks.py"

FAMILIES = {
    "timm-resnet": ("timm:resnet18", 32),
    "torchvision-resnet": ("torchvision:resnet18", 32),
    "timm-vit": ("timm:vit_tiny_patch16_224", 32),
    "torchvision-vit": (f"python:{TORCHVISION_VIT}:vision_transformer", 32),
    "torchvision-mobilenet": ("torchvision:mobilenet_v3_small", 64),
    "demo-mobilenet": ("demo:mobilenetv1-025", 64),
    "demo-glyphnet": ("demo:glyphnet", 32),
}

ONE_OF_EACH_KIND = ("timm-resnet", "timm-vit", "demo-mobilenet")
"""For tests that take seconds a network; the others of the same kind are marked slow there."""


@functools.cache
def _loaded(family: str) -> Pretrained:
    spec, size = FAMILIES[family]
    return load_pretrained(spec, weights="random", image_size=size)


def load_family(family: str) -> Pretrained:
    """A network of its own for each call; building is done once."""
    return copy.deepcopy(_loaded(family))
