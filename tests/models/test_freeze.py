from __future__ import annotations

import pytest
import torch
from tests.models.families import load_family
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.freeze import freeze_parameters


def resnet() -> Classifier:
    pretrained = load_family("timm-resnet")
    classifier = Classifier(pretrained.net, pretrained.head_name)
    classifier.reset_head(3, seed=0)
    return classifier.train()


def state_after_a_step(classifier: Classifier) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers before and after one step of gradient descent in train mode."""
    before = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    classifier.train()
    logits = classifier(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).logits
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    torch.optim.SGD([parameter for parameter in classifier.parameters() if parameter.requires_grad], lr=0.1).step()
    return before, classifier.net.state_dict()


def test_nothing_of_a_frozen_backbone_moves_statistics_included_and_the_head_does() -> None:
    classifier = resnet()
    names = freeze_parameters(classifier, ["backbone"])
    assert names == {name for name, _ in classifier.backbone_parameters()}
    before, after = state_after_a_step(classifier)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"fc.weight", "fc.bias"}


def test_batchnorm_keeps_its_statistics_where_it_is_frozen_and_only_there() -> None:
    classifier = resnet()
    freeze_parameters(classifier, ["layer1", "layer2.0.conv1", "bn1.weight"])
    before, after = state_after_a_step(classifier)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("layer1.") for name in moved)
    assert not {"layer2.0.conv1.weight", "bn1.weight"} & moved
    assert {"layer2.0.bn1.running_mean", "bn1.bias", "bn1.running_mean", "bn1.running_var"} <= moved


def test_batchnorm_without_scale_follows_the_module_around_it() -> None:
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    classifier = Classifier(net)
    freeze_parameters(classifier, ["0"])
    classifier.train()
    assert not net[0][1].training
    assert net[1][1].training


def test_freezing_the_head_is_refused() -> None:
    classifier = resnet()
    with pytest.raises(ConfigError, match=r"--freeze '\*' would freeze the head 'fc' too, .* type --freeze backbone"):
        freeze_parameters(classifier, ["layer1", "*"])
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_a_mistyped_pattern_freezes_nothing() -> None:
    classifier = resnet()
    with pytest.raises(ConfigError, match=r"--freeze 'layr1' matches no parameter.*'layer1'"):
        freeze_parameters(classifier, ["layer2", "layr1"])
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_no_pattern_freezes_nothing() -> None:
    assert freeze_parameters(resnet(), []) == set()
