from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import torch
import torchvision
from torch import nn

from holdfast.errors import ConfigError
from holdfast.models.head import find_head
from holdfast.models.select import layer_depths, match_parameters


def on_meta(build: Callable[..., nn.Module], *args: object, **options: object) -> nn.Module:
    """A network of its real size without memory."""
    with torch.device("meta"):
        return build(*args, **options)


class Branches(nn.Module):
    """Names that are prefixes of one another, a token, and a head that is not defined last."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.head = nn.Linear(4, 2)
        self.layer1 = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.layer10 = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["token"], {"token"}),
        (["layer1"], {"layer1.0.weight", "layer1.0.bias", "layer1.1.weight", "layer1.1.bias"}),
        (["layer1.*"], {"layer1.0.weight", "layer1.0.bias", "layer1.1.weight", "layer1.1.bias"}),
        (["layer1?.0"], {"layer10.0.weight", "layer10.0.bias"}),
        (["layer1*.1.weight", "token"], {"layer1.1.weight", "layer10.1.weight", "token"}),
        (["*.0.bias"], {"layer1.0.bias", "layer10.0.bias"}),
        (["layer[1-9].1"], {"layer1.1.weight", "layer1.1.bias"}),
    ],
)
def test_a_pattern_takes_names_it_matches_and_all_below_a_module_it_matches(patterns: list[str], expected: set[str]) -> None:
    assert match_parameters(Branches(), patterns, head_name="head") == expected


def test_backbone_is_all_but_the_head() -> None:
    net = Branches()
    everything = {name for name, _ in net.named_parameters()}
    assert match_parameters(net, ["backbone"], head_name="head") == everything - {"head.weight", "head.bias"}
    resnet = on_meta(torchvision.models.resnet18)
    assert match_parameters(resnet, ["*"]) - match_parameters(resnet, ["backbone"]) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("layer2", r"--freeze 'layer2' matches no parameter of the network\. Did you mean 'layer1"),
        ("layer1.0.wight", r"--freeze 'layer1.0.wight' .* Did you mean 'layer1.0.weight'"),
        ("lay1.*", r"Did you mean 'layer1"),
        ("Token", r"Did you mean 'token'\?"),
        ("stem", r"Its parts are token, head, layer1, layer10; 'backbone' stands for all but the head"),
        ("", r"--freeze '' matches no parameter"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_names(pattern: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        match_parameters(Branches(), ["token", pattern], head_name="head")


def test_the_message_names_the_option_that_was_typed() -> None:
    with pytest.raises(ConfigError, match="--layers 'x' matches no parameter"):
        match_parameters(Branches(), ["x"], head_name="head", option="--layers")


# Blocks as the papers and torchvision's own layout number them: stem, each block or downsampling in the order it runs, head.
TORCHVISION = {
    "resnet18": 1 + 8 + 1,
    "vit_b_16": 1 + 12 + 1,
    "convnext_tiny": 1 + 18 + 3 + 1,
    "swin_t": 1 + 12 + 3 + 1,
    "mobilenet_v2": 1 + 17 + 1 + 1,
    "mobilenet_v3_small": 1 + 11 + 1 + 1 + 1,
    "efficientnet_b0": 1 + 16 + 1 + 1,
    "densenet121": 1 + 58 + 3 + 1,
    "vgg11": 8 + 2 + 1,
    "vgg11_bn": 8 + 2 + 1,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_depth_counts_the_blocks_of_torchvision_in_the_order_they_run(name: str) -> None:
    net = on_meta(torchvision.models.get_model, name)
    depths = layer_depths(net, find_head(net))
    assert list(depths) == [name for name, _ in net.named_parameters()]
    assert max(depths.values()) == TORCHVISION[name] - 1
    # In these networks parameters are defined in the order they run, but for the loose ones of the vision transformer.
    in_order = [depth for name, depth in depths.items() if name != "encoder.pos_embedding"]
    assert all(0 <= later - earlier <= 1 for earlier, later in pairwise(in_order))
    assert depths[f"{find_head(net)}.weight"] == max(depths.values())


def test_depth_of_loose_parameters_and_of_normalisation_between_blocks() -> None:
    vit = on_meta(torchvision.models.vit_b_16)
    depths = layer_depths(vit, "heads.head")
    assert depths["class_token"] == depths["encoder.pos_embedding"] == depths["conv_proj.weight"] == 0
    assert depths["encoder.layers.encoder_layer_11.mlp.0.weight"] == depths["encoder.ln.weight"] == 12
    assert depths["heads.head.weight"] == 13
    convnext = on_meta(torchvision.models.convnext_tiny)
    depths = layer_depths(convnext, "classifier.2")
    assert depths["features.2.0.weight"] == depths["features.2.1.weight"] == depths["features.1.2.layer_scale"] + 1
    assert depths["classifier.0.weight"] == depths["classifier.2.weight"]  # built around the head
    resnet = on_meta(torchvision.models.resnet18)
    depths = layer_depths(resnet, "fc")
    assert depths["bn1.weight"] == 0
    assert depths["layer2.0.downsample.0.weight"] == depths["layer2.0.conv1.weight"] == 3


def test_depth_follows_what_timm_says_of_its_networks() -> None:
    vit = on_meta(timm.create_model, "vit_tiny_patch16_224")
    depths = layer_depths(vit, "head")
    assert depths["cls_token"] == depths["pos_embed"] == depths["patch_embed.proj.weight"] == 0
    assert [depths[f"blocks.{block}.mlp.fc1.weight"] for block in range(12)] == list(range(1, 13))
    assert depths["norm.weight"] == 12
    assert depths["head.weight"] == 13


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "densenet121", "efficientnet_b0", "pit_ti_224"]
)
def test_depths_of_timm_begin_at_0_leave_no_gap_and_end_at_the_head(name: str) -> None:
    net = on_meta(timm.create_model, name)
    depths = layer_depths(net, find_head(net))
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    assert depths[next(iter(depths))] == 0
    assert depths[f"{find_head(net)}.weight"] == max(depths.values()) > 5


def test_the_head_is_deepest_wherever_it_is_defined_and_whatever_timm_thinks_is_the_head() -> None:
    depths = layer_depths(Branches(), "head")
    assert depths["token"] == depths["layer1.0.weight"] == depths["layer1.1.weight"] == 0
    assert depths["layer10.0.weight"] == depths["layer10.1.bias"] == 1
    assert depths["head.weight"] == depths["head.bias"] == 2
    vit = on_meta(timm.create_model, "vit_tiny_patch16_224")
    assert layer_depths(vit, "blocks.3.mlp.fc2")["blocks.3.mlp.fc2.weight"] == 13


def test_a_shared_layer_has_the_depth_of_its_first_place() -> None:
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.Linear(4, 4), shared, nn.Linear(4, 2))
    assert layer_depths(net, "3") == {"0.weight": 0, "0.bias": 0, "1.weight": 1, "1.bias": 1, "3.weight": 2, "3.bias": 2}


def test_a_network_that_is_all_head_has_one_depth() -> None:
    assert layer_depths(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "1") == {"1.weight": 0, "1.bias": 0}
