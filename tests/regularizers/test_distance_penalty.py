"""The soft form as a method: which tensors count, with which weight."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import attach
from holdfast.errors import ConfigError
from holdfast.testing import SmallNet


class Net(nn.Module):
    """A convolution, a transposed one in groups, BatchNorm and a head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.norm, self.up = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 2, groups=2)
            self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.up(self.norm(self.conv(images))).mean(dim=(2, 3)))


def moved() -> tuple[Net, dict[str, Tensor]]:
    """A network that has left its start."""
    net = Net()
    start = copy.deepcopy(net.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return net, start


def values(net: Net, start: dict[str, Tensor], **options: Any) -> dict[str, float]:
    pretrained = Net()
    pretrained.load_state_dict(start)
    terms = attach(net, [{"name": "distance-penalty", **options}], num_classes=3, pretrained=pretrained)
    terms.loss(torch.ones(2, 2, 5, 5), torch.tensor([0, 1]))
    return {name.rpartition("/")[2]: value for name, value in terms.values.items()}


def largest_row(name: str, difference: Tensor) -> float:
    if name == "up.weight":  # (in, out / groups, ...): two groups of two inputs and three outputs
        return max(difference[2 * g : 2 * g + 2, o].abs().sum().item() for g in range(2) for o in range(3))
    return max(row.abs().sum().item() for row in difference)


@pytest.mark.parametrize("bn", [True, False])
@pytest.mark.parametrize("norm", ["frob", "infop"])
def test_layers_and_scales_count_and_biases_do_not(norm: str, bn: bool) -> None:
    net, start = moved()
    names = ["conv.weight", "up.weight", *(["norm.weight"] if bn else [])]
    size = (lambda name, d: d.square().sum().item()) if norm == "frob" else largest_row
    found = values(net, start, norm=norm, bn=bn)
    expected = sum(size(name, (net.get_parameter(name) - start[name]).detach()) for name in names)
    assert found["backbone"] == pytest.approx(expected, rel=1e-5)
    assert found["head"] == pytest.approx(size("head.weight", net.head.weight.detach()), rel=1e-5)


def test_frozen_layers_and_those_that_are_not_named_do_not_count() -> None:
    net, start = moved()
    one = values(net, start, layers="conv")
    assert one["backbone"] == pytest.approx((net.conv.weight - start["conv.weight"]).square().sum().item(), rel=1e-5)
    net.conv.weight.requires_grad_(False)
    assert values(net, start, layers="conv")["backbone"] == 0
    net.head.weight.requires_grad_(False)
    assert values(net, start)["head"] == 0


def test_depth_scales_the_penalty() -> None:
    net = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(4)), nn.Linear(4, 2))
    pretrained = copy.deepcopy(net)
    with torch.no_grad():
        for number in range(4):
            net[number][0].weight.add_(1.0)  # a squared distance of 16
    terms = attach(net, [{"name": "distance-penalty", "scale_by_depth": 0.5}], num_classes=2, pretrained=pretrained)
    terms.loss(torch.ones(2, 4), torch.tensor([0, 1]))
    assert terms.values["distance-penalty/backbone"] == pytest.approx(16 * (1 + 1 + 0.5 + 0.25), rel=1e-5)


def test_the_total_has_the_weights_of_both_parts() -> None:
    net = SmallNet(3)
    pretrained = SmallNet(3)
    with torch.no_grad():
        net.body[0].weight.add_(0.1)
    terms = attach(net, [{"name": "distance-penalty", "weight": 2.0, "head_weight": 3.0}], num_classes=3, pretrained=pretrained)
    total = terms.loss(torch.ones(2, 6), torch.tensor([0, 1]))
    found = terms.values
    expected = found["cross-entropy"] + 2 * found["distance-penalty/backbone"] + 3 * found["distance-penalty/head"]
    assert total.item() == pytest.approx(expected, rel=1e-6)


def test_a_pattern_without_a_match_is_named() -> None:
    sentence = r"distance-penalty: --method\.distance-penalty\.layers 'boddy' matches no parameter .* Did you mean 'body'"
    with pytest.raises(ConfigError, match=sentence):
        attach(SmallNet(3), [{"name": "distance-penalty", "layers": "boddy"}], num_classes=3)
