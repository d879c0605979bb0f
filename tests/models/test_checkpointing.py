from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from benchmarks.checkpointing import kept_bytes
from tests.models import small_members, small_networks
from tests.models.families import load_family
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.checkpointing import checkpoint_blocks
from holdfast.models.classifier import Classifier, freeze_batchnorm
from holdfast.models.head import find_head

PLAIN = {"timm-vgg", "tower"}
"""Sequences of layers, which are refused."""

WITH_BLOCKS = (
    *("timm-resnet", "torchvision-resnet", "timm-vit", "torchvision-vit", "torchvision-mobilenet", "demo-mobilenet", "demo-glyphnet"),
    *("timm-convnext", "torchvision-convnext", "timm-swin", "torchvision-swin", "timm-efficientnet", "torchvision-efficientnet"),
    *("timm-densenet", "torchvision-densenet", "torchvision-mobilenetv2", "torchvision-regnet", "torchvision-squeezenet"),
    *("timm-convolutional-head", "timm-tower"),
)


def classifier_of(net: nn.Module, head_name: str) -> Classifier:
    classifier = Classifier(net, head_name)
    classifier.reset_head(3, seed=0)
    for module in net.modules():
        if isinstance(module, nn.Dropout) and module.p == 0:
            module.p = 0.3  # so that every network draws random numbers
    return classifier.train()


def train_steps(classifier: Classifier, size: int, steps: int = 2) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
    """Gradients of each step, the state after the last, and the random state."""
    torch.manual_seed(1)
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    gradients = []
    for _ in range(steps):
        optimizer.zero_grad()
        logits, features = classifier(images)
        (nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])) + features["pooled"].square().mean()).backward()
        gradients += [parameter.grad.clone() for parameter in classifier.parameters() if parameter.grad is not None]
        optimizer.step()
    return gradients, classifier.state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("family", WITH_BLOCKS)
def test_gradients_statistics_and_random_states_are_those_of_training_without(family: str) -> None:
    pretrained = load_family(family)
    plain = classifier_of(pretrained.net, pretrained.head_name)
    saving = copy.deepcopy(plain)
    assert checkpoint_blocks(saving.net, saving.head_name) > 1
    expected = train_steps(plain, pretrained.input.size)
    found = train_steps(saving, pretrained.input.size)
    assert len(found[0]) == len(expected[0])
    assert all(torch.equal(one, other) for one, other in zip(found[0], expected[0], strict=True))
    assert found[1].keys() == expected[1].keys()
    assert [name for name in found[1] if not torch.equal(found[1][name], expected[1][name])] == []
    assert torch.equal(found[2], expected[2])


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("family", ["timm-resnet", "timm-vit", "torchvision-densenet"])
def test_compiled_with_frozen_batchnorm_it_gives_the_same_gradients(family: str) -> None:
    pretrained = load_family(family)
    plain = classifier_of(pretrained.net, pretrained.head_name)
    freeze_batchnorm(plain.net)
    saving = copy.deepcopy(plain)
    checkpoint_blocks(saving.net, saving.head_name, compiled=True)
    saving.compile(backend="aot_eager", fullgraph=True)
    expected, found = train_steps(plain, pretrained.input.size), train_steps(saving, pretrained.input.size)
    for one, other in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", sorted(PLAIN))
def test_a_plain_sequence_of_layers_is_refused(family: str) -> None:
    pretrained = load_family(family)
    with pytest.raises(ModelError, match=r"--gradient-checkpointing: .* is a plain sequence of layers.*--accumulate"):
        checkpoint_blocks(pretrained.net, pretrained.head_name)


def on_meta(name: str, library: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name) if library == "timm" else torchvision.models.get_model(name)


@pytest.mark.parametrize(
    ("library", "name", "count"),
    [
        ("torchvision", "resnet50", 16),
        ("timm", "resnet50", 16),
        ("torchvision", "vit_b_16", 12),
        ("timm", "vit_tiny_patch16_224", 12 + 1),  # and the patch embedding
        ("torchvision", "convnext_tiny", 18 + 1),  # and the stem
        ("timm", "swin_tiny_patch4_window7_224", 12 + 3 + 1),  # the patch merging, the patch embedding
        ("torchvision", "mobilenet_v2", 17 + 2),  # the first and the last convolution
        ("torchvision", "densenet121", 58 + 3),  # the transitions
        ("timm", "efficientnet_b0", 16),  # its BatchNorm layers contain an activation, and are no blocks
    ],
)
def test_blocks_are_the_innermost_repeated_modules(library: str, name: str, count: int) -> None:
    net = on_meta(name, library)
    assert checkpoint_blocks(net, find_head(net)) == count


@pytest.mark.parametrize("family", ["timm-resnet", "timm-vit"])
def test_a_forward_pass_keeps_much_less(family: str) -> None:
    pretrained = load_family(family)
    classifier = classifier_of(pretrained.net, pretrained.head_name)
    before = kept_bytes(classifier.net, pretrained.input.size)
    checkpoint_blocks(classifier.net, classifier.head_name)
    assert kept_bytes(classifier.net, pretrained.input.size) < 0.6 * before


@pytest.fixture
def residual() -> Classifier:
    return classifier_of(small_members.mobilenet_v2(), "classifier.1")


def test_a_deep_copy_recomputes_its_own_blocks(residual: Classifier) -> None:
    checkpoint_blocks(residual.net, residual.head_name)
    twin = copy.deepcopy(residual)
    with torch.no_grad():
        for parameter in residual.parameters():
            parameter.zero_()
    gradients, _, _ = train_steps(twin, 32, steps=1)
    assert any(gradient.any() for gradient in gradients)


def test_nothing_is_recomputed_in_eval_mode_or_without_gradient(residual: Classifier) -> None:
    checkpoint_blocks(residual.net, residual.head_name)
    passes: list[nn.Module] = []
    inner = residual.net.features[1].conv[0]
    inner.register_forward_hook(lambda module, inputs, output: passes.append(module))
    residual(torch.randn(2, 3, 32, 32)).logits.sum().backward()
    assert len(passes) == 2
    residual.eval()(torch.randn(2, 3, 32, 32)).logits.sum().backward()
    with torch.no_grad():
        residual.train()(torch.randn(2, 3, 32, 32))
    assert len(passes) == 4


def test_frozen_batchnorm_and_captured_layers_work_with_it(residual: Classifier) -> None:
    freeze_batchnorm(residual.net)
    residual.capture(["features.1.conv.0", "features.2"])
    twin = copy.deepcopy(residual)
    checkpoint_blocks(residual.net, residual.head_name)
    for classifier in (residual, twin):
        torch.manual_seed(0)
        features = classifier(torch.ones(2, 3, 32, 32)).features
        sum(value.square().mean() for value in features.values()).backward()
    for one, other in zip(residual.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad) if other.grad is not None else one.grad is None


def test_a_network_of_users_own_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="Sequential is a plain sequence"):
        checkpoint_blocks(small_networks.linear_net(), "4")
