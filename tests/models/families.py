"""Members of the families that must all pass the same tests, with random weights: the smallest that the libraries' classes can build."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from holdfast.models.load import Pretrained, load_pretrained

SMALL = f"python:{Path(__file__).parent / 'small_members.py'}"

FAMILIES = {
    "timm-resnet": ("timm:resnet18", 32),
    "torchvision-resnet": ("torchvision:resnet18", 32),
    "timm-vit": ("timm:vit_tiny_patch16_224", 32),
    "torchvision-vit": (f"{SMALL}:vision_transformer", 32),
    "torchvision-mobilenet": ("torchvision:mobilenet_v3_small", 64),
    "demo-mobilenet": ("demo:mobilenetv1-025", 64),
    "demo-glyphnet": ("demo:glyphnet", 32),
    "timm-convnext": ("timm:test_convnext", 32),
    "torchvision-convnext": (f"{SMALL}:convnext", 32),
    "timm-swin": (f"{SMALL}:timm_swin", 32),
    "torchvision-swin": (f"{SMALL}:swin", 32),
    "timm-efficientnet": ("timm:test_efficientnet", 32),
    "torchvision-efficientnet": (f"{SMALL}:efficientnet", 32),
    "timm-densenet": (f"{SMALL}:timm_densenet", 32),
    "torchvision-densenet": (f"{SMALL}:densenet", 32),
    "timm-vgg": (f"{SMALL}:timm_vgg", 32),
    "torchvision-mobilenetv2": (f"{SMALL}:mobilenet_v2", 32),
    "torchvision-regnet": (f"{SMALL}:regnet", 32),
    "torchvision-squeezenet": ("torchvision:squeezenet1_1", 64),
    "timm-convolutional-head": (f"{SMALL}:timm_bit", 32),
    "timm-tower": (f"{SMALL}:timm_tower", 32),
    "tower": (f"{SMALL}:convolutional_tower", 32),
}

FULL_SIZE = {
    "timm:convnext_atto": 64,
    "timm:swin_tiny_patch4_window7_224": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:densenet121": 64,
    "torchvision:vgg11_bn": 64,
    "timm:mobilenetv2_035": 64,
    "timm:mobilenetv3_small_050": 64,
    "timm:regnety_002": 64,
    "timm:deit_tiny_patch16_224": 64,
    "torchvision:vit_b_16": 32,
    "timm:resnetv2_50": 64,
    "timm:dpn68": 64,
    "torchvision:squeezenet1_0": 64,
}
"""One network of full size for each family, and the image size for its test."""


@functools.cache
def _loaded(family: str) -> Pretrained:
    spec, size = FAMILIES[family]
    return load_pretrained(spec, weights="random", image_size=size)


def load_family(family: str) -> Pretrained:
    """A network of its own for each call; building is done once."""
    return copy.deepcopy(_loaded(family))
