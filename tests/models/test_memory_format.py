from __future__ import annotations

import copy

import pytest
import torch
from tests.models.families import load_family
from torch import nn

from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.memory_format import prefers_channels_last, to_channels_last


@pytest.mark.parametrize(
    ("family", "device", "precision", "expected"),
    [
        ("timm-resnet", "cpu", "fp32", True),
        ("demo-mobilenet", "cpu", "fp32", True),
        ("timm-convnext", "cpu", "fp32", False),
        ("timm-vit", "cpu", "fp32", False),
        ("timm-resnet", "cpu", "bf16", False),
        ("timm-resnet", "cuda", "fp32", False),
        ("timm-resnet", "cuda", "bf16", True),
        ("timm-convnext", "cuda", "fp16", True),
        ("timm-vit", "cuda", "bf16", False),
        ("torchvision-swin", "cuda", "bf16", False),
    ],
)
def test_channels_last_is_for_convolutional_networks_where_it_was_faster(family: str, device: str, precision: str, expected: bool) -> None:
    assert prefers_channels_last(load_family(family).net, device=device, precision=precision) is expected


@pytest.mark.parametrize("family", ["demo-glyphnet", "timm-convnext", "timm-vit"])
def test_values_names_and_outputs_stay(family: str) -> None:
    pretrained = load_family(family)
    net = pretrained.net.eval()
    before = copy.deepcopy(net)
    to_channels_last(net)
    images = torch.randn(2, 3, pretrained.input.size, pretrained.input.size)
    torch.testing.assert_close(net(images), before(images), rtol=1e-4, atol=1e-5)
    assert fingerprint_tensors(net.state_dict()) == fingerprint_tensors(before.state_dict())


def test_maps_are_channels_last_all_the_way_though_images_are_not() -> None:
    pretrained = load_family("demo-glyphnet")
    to_channels_last(pretrained.net)
    orders = []

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        orders.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in pretrained.net.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.register_forward_hook(look)
    pretrained.net(torch.randn(2, 3, 32, 32))
    assert len(orders) > 10
    assert all(orders)
