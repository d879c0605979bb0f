from __future__ import annotations

import pytest
import timm
import torch
from tests.models import small_networks
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.head import find_head
from holdfast.models.head_dropout import set_head_dropout
from holdfast.models.load import load_pretrained
from holdfast.types import InputSpec


def share_of_zeros_in_training(net: nn.Module, size: int) -> float:
    """Share of features that are 0 in train mode and not in eval mode; BatchNorm frozen, so that nothing else differs."""
    classifier = Classifier(net)
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    whole = classifier.eval()(images).features["pooled"]
    for module in classifier.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    dropped: Tensor = classifier(images).features["pooled"]
    return float(((dropped == 0) & (whole != 0)).sum() / (whole != 0).sum())


def spec_of(size: int) -> InputSpec:
    return InputSpec(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def without_head_dropout(net: nn.Module, size: int) -> list[str]:
    return set_head_dropout(net, find_head(net), None, spec_of(size))


def test_torchvision_mobilenet_gives_whole_features_in_training() -> None:
    loaded = load_pretrained("torchvision:mobilenet_v3_small", weights="random", image_size=64)
    assert "head dropout 0.2 set to 0" in loaded.notes
    assert share_of_zeros_in_training(loaded.net, 64) == 0


def test_the_users_rate_is_set_instead() -> None:
    loaded = load_pretrained("torchvision:mobilenet_v3_small", weights="random", image_size=64, head_dropout=0.5)
    assert "head dropout 0.2 set to 0.5" in loaded.notes
    assert abs(share_of_zeros_in_training(loaded.net, 64) - 0.5) < 0.05


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet18", {}, 32),  # functional, from the attribute drop_rate
        ("vit_tiny_patch16_224", {"img_size": 32}, 32),  # a layer beside the head
        ("convnext_atto", {}, 32),  # a layer in a block around the head
    ],
)
def test_timm_head_dropout_is_found_wherever_it_is_kept(name: str, options: dict[str, int], size: int) -> None:
    net = timm.create_model(name, drop_rate=0.5, **options)
    assert share_of_zeros_in_training(net, size) > 0.3
    assert without_head_dropout(net, size) == ["head dropout 0.5 set to 0"]
    assert share_of_zeros_in_training(net, size) == 0
    assert without_head_dropout(net, size) == []


def test_dropout_elsewhere_is_left_alone() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(48, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 2))
    assert without_head_dropout(net, 4) == ["head dropout 0.4 set to 0"]
    assert (net[1].p, net[4].p) == (0.3, 0.0)


def test_dropout_before_pooling_is_not_head_dropout() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    assert without_head_dropout(net, 8) == []
    assert net[1].p == 0.3


def test_a_rate_without_dropout_to_set_is_an_error() -> None:
    net = small_networks.linear_net()
    with pytest.raises(ConfigError, match=r"--head-dropout 0.3: the network has no dropout in front of its head '4'"):
        set_head_dropout(net, "4", 0.3, spec_of(8))


def test_dropout_inside_the_users_own_code_is_reported() -> None:
    net = small_networks.Dropping()
    (note,) = without_head_dropout(net, 8)
    assert "by its own code" in note


def test_looking_for_dropout_leaves_no_trace() -> None:
    net = timm.create_model("resnet18", drop_rate=0.5).train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    without_head_dropout(net, 32)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
