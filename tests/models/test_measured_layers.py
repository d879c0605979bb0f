from __future__ import annotations

from collections import OrderedDict

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from holdfast.errors import ConfigError, ModelError
from holdfast.models.select import measured_layers


@pytest.fixture(autouse=True)
def _without_memory():
    with torch.device("meta"):
        yield


class Everything(nn.Module):
    """One of each kind of weight, and parameters of two or more dimensions that are no layers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.words = nn.Embedding(5, 8)
        self.stem = nn.Conv1d(3, 8, 3)
        self.up = nn.ConvTranspose2d(3, 8, 3)
        self.norm = nn.LayerNorm((4, 8))
        self.packed = nn.MultiheadAttention(8, 2)
        self.apart = nn.MultiheadAttention(8, 2, kdim=4, vdim=4)
        self.head = nn.Linear(8, 2)


def test_layers_are_chosen_by_the_type_of_their_module() -> None:
    assert measured_layers(Everything()) == (
        "stem.weight",
        "up.weight",
        "packed.in_proj_weight",
        "packed.out_proj.weight",
        *(f"apart.{name}_proj_weight" for name in "qkv"),
        "apart.out_proj.weight",
        "head.weight",
    )


def test_tokens_positions_and_scales_are_no_layers_in_real_networks() -> None:
    vit = timm.create_model("vit_tiny_patch16_224")
    assert {name for name, value in vit.named_parameters() if value.ndim > 1} - set(measured_layers(vit)) == {"cls_token", "pos_embed"}
    convnext = torchvision.models.convnext_tiny()
    layers = measured_layers(convnext)
    left = {name.rpartition(".")[2] for name, value in convnext.named_parameters() if value.ndim > 1 and name not in layers}
    assert left == {"layer_scale"}


def test_preset_leaves_out_what_the_paper_did() -> None:
    resnet = torchvision.models.resnet18()
    everything, published = measured_layers(resnet), measured_layers(resnet, preset="ju2022")
    assert set(everything) - set(published) == {f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4)}
    assert published[-1] == "fc.weight"
    vit = timm.create_model("vit_tiny_patch16_224")
    assert set(measured_layers(vit)) - set(measured_layers(vit, preset="ju2022")) == {"patch_embed.proj.weight"}


def test_preset_leaves_out_layers_of_transformers_by_name() -> None:
    net = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("embeddings_map", "query", "MyLayerNorm", "pooler", "classifier")})
    assert measured_layers(net, preset="ju2022") == ("query.weight", "classifier.weight")


def test_preset_takes_a_network_of_as_many_convolutions_as_linear_layers_for_a_convolutional_one() -> None:
    convolutions = {name: nn.Conv2d(3, 3, 1) for name in ("conv1", "shortcut")}
    net = nn.Sequential(OrderedDict(convolutions, hidden=nn.Linear(3, 3), fc=nn.Linear(3, 2)))
    assert measured_layers(net, preset="ju2022") == ("conv1.weight", "fc.weight")


def test_frozen_weights_are_left_out_and_tied_ones_named_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert measured_layers(net) == ("0.weight", "2.weight")
    net[2].requires_grad_(False)
    assert measured_layers(net) == ("0.weight",)


def test_weights_over_the_same_memory_are_tied() -> None:
    with torch.device("cpu"):
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        net[1].weight = nn.Parameter(net[0].weight.detach())
    assert measured_layers(net) == ("0.weight",)


def test_patterns_choose_among_layers() -> None:
    resnet = torchvision.models.resnet18()
    assert measured_layers(resnet, patterns=["layer4.1", "fc"]) == ("layer4.1.conv1.weight", "layer4.1.conv2.weight", "fc.weight")
    with pytest.raises(ConfigError, match=r"--layers '\*.bias' matches parameters but no layer; layers are conv1.weight, "):
        measured_layers(resnet, patterns=["*.bias"])
    with pytest.raises(ConfigError, match=r"--layers 'layer9' matches no parameter"):
        measured_layers(resnet, patterns=["layer9"])


def test_what_has_no_layers_or_computes_its_weights_is_refused() -> None:
    with pytest.raises(ModelError, match=r"LayerNorm has no trainable Linear, convolution or attention weight to measure \(preset 'all'\)"):
        measured_layers(nn.LayerNorm(4))
    with torch.device("cpu"), pytest.raises(ModelError, match="the weight of 0 is computed from others"):
        measured_layers(nn.Sequential(weight_norm(nn.Linear(3, 3))))


def test_a_single_layer_is_a_network_too() -> None:
    assert measured_layers(nn.Linear(3, 2)) == ("weight",)
