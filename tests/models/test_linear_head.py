from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.models import small_members, small_networks
from tests.models.families import SMALL
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from holdfast.errors import ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.linear_head import with_linear_head
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.types import InputSpec

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


SPEC = InputSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def saved(net: nn.Module, path: Path) -> str:
    save_file({name: value.clone() for name, value in net.state_dict().items()}, path)
    return str(path)


def equal_logits(loaded: Pretrained, expected: Tensor) -> bool:
    return torch.allclose(loaded.net.eval()(IMAGES), expected, atol=1e-5)


def test_a_head_that_is_a_convolution_becomes_the_linear_layer_with_the_same_weights() -> None:
    net = small_members.timm_bit().eval()
    expected = net(IMAGES)
    headed = with_linear_head(copy.deepcopy(net), lambda net, tensors: None, SPEC, label="x")
    assert not headed.fresh
    torch.testing.assert_close(headed.net(IMAGES), expected)


def test_weights_of_a_network_with_a_convolutional_head_keep_it_as_the_source_head(tmp_path: Path) -> None:
    source = small_members.timm_bit().eval()
    loaded = load_pretrained(f"{SMALL}:timm_bit", weights=saved(source, tmp_path / "net.safetensors"), image_size=32)
    assert loaded.source_head
    assert loaded.head_name == "head.fc.1"
    assert equal_logits(loaded, source(IMAGES))
    again = load_pretrained(f"{SMALL}:timm_bit", weights=saved(loaded.net, tmp_path / "again.safetensors"), image_size=32)
    assert equal_logits(again, source(IMAGES))


def test_a_file_with_another_class_count_and_a_convolutional_head(tmp_path: Path) -> None:
    source = small_members.timm_bit().eval()
    source.reset_classifier(3)
    loaded = load_pretrained(f"{SMALL}:timm_bit", weights=saved(source, tmp_path / "net.safetensors"), image_size=32)
    assert equal_logits(loaded, source(IMAGES))


@pytest.mark.parametrize(("tower", "width"), [("timm_tower", 64), ("convolutional_tower", 8)])
def test_a_network_that_returns_features_gets_a_head_on_top_and_that_is_said(tmp_path: Path, tower: str, width: int) -> None:
    net = getattr(small_members, tower)().eval()
    spec = f"{SMALL}:{tower}"
    loaded = load_pretrained(spec, weights=saved(net, tmp_path / "net.safetensors"), image_size=32)
    assert f"--model {spec} has no head: a fresh Linear layer was put on top of its {width} features" in loaded.notes
    assert not loaded.source_head
    assert not load_pretrained(spec, image_size=32).source_head  # the function's own weights bring none either
    classifier = Classifier(loaded.net, loaded.head_name).eval()
    classifier.verify(loaded.input)
    assert torch.equal(classifier(IMAGES).features["pooled"], net(IMAGES))


def test_a_network_without_linear_layer_that_returns_maps_is_refused() -> None:
    with pytest.raises(ModelError, match=r"x \(Conv2d\) has no Linear head, and its output of shape \(2, 4, 32, 32\) is no feature vector"):
        with_linear_head(nn.Conv2d(3, 4, 1), lambda net, tensors: None, SPEC, label="x")
    with pytest.raises(ModelError, match="failed on images of shape 2 x 3 x 32 x 32"):
        with_linear_head(nn.Conv2d(5, 4, 1), lambda net, tensors: None, SPEC, label="x")


def test_a_tower_that_hides_a_linear_layer_is_told_to_end_with_one() -> None:
    loaded = load_pretrained(f"{SMALL}:perceptron_tower", image_size=32)
    with pytest.raises(ModelError, match=r"not the output of '2', .* end the network with one"):
        Classifier(loaded.net, loaded.head_name).verify(loaded.input)


def test_a_network_with_a_linear_head_stays_as_it_is() -> None:
    net = small_networks.linear_net()
    headed = with_linear_head(net, lambda net, tensors: None, SPEC, label="x")
    assert headed.net is net
    assert (headed.fresh, headed.notes) == (False, [])


def test_squeezenet_gives_up_its_convolutional_head(tmp_path: Path) -> None:
    source = squeezenet1_1().eval()
    loaded = load_pretrained("torchvision:squeezenet1_1", weights=saved(source, tmp_path / "net.safetensors"), image_size=64)
    assert not loaded.source_head
    assert "torchvision:squeezenet1_1: its convolutional head gave way to pooling and a fresh Linear layer" in loaded.notes
    images = torch.randn(2, 3, 64, 64)
    features = Classifier(loaded.net, loaded.head_name).eval()(images).features["pooled"]
    assert torch.equal(features, source.features(images).mean((2, 3)))
    again = load_pretrained("torchvision:squeezenet1_1", weights=saved(loaded.net, tmp_path / "again.safetensors"), image_size=64)
    assert again.source_head


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("deit_tiny_distilled_patch16_224", "timm:deit_tiny_patch16_224"),
        ("deit_small_distilled_patch16_224.fb_in1k", "timm:deit_small_patch16_224"),
        ("levit_128s", "timm:vit_tiny_patch16_224"),
    ],
)
def test_a_distilled_network_is_refused_with_the_name_of_one_without_second_head(name: str, other: str) -> None:
    with pytest.raises(ModelError, match=rf"--model timm:{name}: a network with a second head for distillation.* such as {other}$"):
        load_pretrained(f"timm:{name}", weights="random")
