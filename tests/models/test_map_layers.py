"""Layers whose maps describe a network: good ones in every family, and the axis of their channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
import torchvision
from tests.models.families import FAMILIES, load_family
from torch import nn

from holdfast.models.classifier import Classifier
from holdfast.models.demo_recipe import mobilenetv1_025
from holdfast.models.glyphnet import glyphnet
from holdfast.models.select import channel_axis, map_layers
from holdfast.testing import SmallNet

TIMM, TORCHVISION = partial(partial, timm.create_model), partial(partial, torchvision.models.get_model)


def stages(pattern: str, *numbers: int) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in numbers)


RESNET50 = ("layer1.2.conv3", "layer2.3.conv3", "layer3.5.conv3", "layer4.2.conv3")
RESNET18 = ("layer1.1.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2")


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (TORCHVISION("resnet50"), RESNET50),
        (TIMM("resnet50"), RESNET50),
        (TORCHVISION("resnet18"), RESNET18),
        (TIMM("resnet18"), RESNET18),
        (TIMM("vit_base_patch16_224"), stages("blocks.{}", 2, 5, 8, 11)),
        (TORCHVISION("vit_b_16"), stages("encoder.layers.encoder_layer_{}", 2, 5, 8, 11)),
        (TIMM("convnext_tiny"), stages("stages.{}", 0, 1, 2, 3)),
        (TORCHVISION("convnext_tiny"), stages("features.{}", 1, 3, 5, 7)),
        (TIMM("swin_tiny_patch4_window7_224"), stages("layers.{}", 0, 1, 2, 3)),
        (TORCHVISION("swin_t"), stages("features.{}", 1, 3, 5, 7)),
        (TIMM("mobilenetv3_small_100"), stages("blocks.{}", 0, 1, 3, 5)),
        (TORCHVISION("mobilenet_v3_small"), stages("features.{}", 1, 3, 8, 12)),
        (TORCHVISION("mobilenet_v2"), stages("features.{}", 3, 6, 13, 18)),
        (TIMM("efficientnet_b0"), stages("blocks.{}", 1, 2, 4, 6)),
        (TORCHVISION("efficientnet_b0"), stages("features.{}", 2, 3, 5, 8)),
        (TORCHVISION("densenet121"), stages("features.denseblock{}", 1, 2, 3, 4)),
        (TORCHVISION("vgg11"), stages("features.{}", 4, 9, 14, 19)),
        (glyphnet, stages("block{}.conv2", 1, 2, 3)),
        (mobilenetv1_025, stages("blocks.{}", 1, 2, 3, 4)),
    ],
)
def test_layers_of_known_families(build: Callable[[], nn.Module], layers: tuple[str, ...]) -> None:
    with torch.device("meta"):
        assert map_layers(build()) == layers


def test_a_short_vision_transformer_gives_each_block_once() -> None:
    for depth, blocks in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (5, [1, 2, 3, 4]), (8, [1, 3, 5, 7])):
        with torch.device("meta"):
            net = timm.models.VisionTransformer(img_size=32, embed_dim=16, num_heads=2, depth=depth)
        assert map_layers(net) == stages("blocks.{}", *blocks)


def test_a_body_of_another_name_is_found() -> None:
    assert map_layers(load_family("torchvision-regnet").net) == stages("trunk_output.block{}", 1, 2, 3)


def test_networks_of_no_known_make_have_none() -> None:
    twice = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    flat = nn.Sequential()
    flat.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for net in (SmallNet(3), twice, flat, nn.Linear(4, 2)):
        assert map_layers(net) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_leaves_the_maps_of_its_layers_as_they_are(family: str) -> None:
    pretrained = load_family(family)
    classifier = Classifier(pretrained.net, pretrained.head_name)
    layers = map_layers(pretrained.net)
    classifier.capture(layers)
    classifier.verify_layers(pretrained.input)
    maps = classifier.eval()(torch.randn(2, 3, pretrained.input.size, pretrained.input.size)).features
    for layer in layers:
        shape = list(maps[layer].shape)
        del shape[channel_axis(pretrained.net.get_submodule(layer), maps[layer].shape)]
        assert len(set(shape[1:])) == 1  # the sides of the map, or the number of tokens


CONVOLUTION, BLOCK = nn.Conv2d(4, 4, 1), nn.Sequential(nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (CONVOLUTION, (2, 96, 7, 7), 1),
        (CONVOLUTION, (2, 7, 7, 96), 1),
        (CONVOLUTION, (2, 4, 4, 4), 1),
        (BLOCK, (2, 96, 7, 7), 1),
        (BLOCK, (2, 7, 7, 96), 3),
        (BLOCK, (2, 1, 1, 96), 3),
        (BLOCK, (2, 96, 1, 1), 1),
        (BLOCK, (2, 7, 7, 7), 1),
        (BLOCK, (2, 49, 96), 2),
        (nn.Conv1d(4, 4, 1), (2, 96, 49), 1),
        (BLOCK, (2, 96), 1),
        (BLOCK, (2, 8, 4, 5, 6), 1),
    ],
)
def test_channels_are_on_the_axis_that_is_no_position(layer: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    assert channel_axis(layer, shape) == axis
