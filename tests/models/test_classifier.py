from __future__ import annotations

import copy
import gc
import weakref

import pytest
import timm
import torch
from tests.models import small_networks
from tests.models.families import FAMILIES, load_family
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.classifier import Classifier, find_head, freeze_batchnorm, synchronize_batchnorm
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.types import InputSpec


def images_for(pretrained: Pretrained, count: int = 2) -> Tensor:
    size = pretrained.input.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def own_features(net: nn.Module, head_name: str, images: Tensor) -> Tensor:
    """The library's own features: timm's pre-logits, or the output once the head is an Identity."""
    if hasattr(net, "forward_head"):
        return net.forward_head(net.forward_features(images), pre_logits=True)
    bare = copy.deepcopy(net)
    bare.set_submodule(head_name, nn.Identity())
    return bare(images)


def test_pooled_is_the_input_of_the_head_and_what_the_library_calls_features(pretrained: Pretrained) -> None:
    net = pretrained.net.eval()
    images = images_for(pretrained)
    expected_logits = net(images)
    expected_features = own_features(net, pretrained.head_name, images)

    classifier = Classifier(net, pretrained.head_name)
    classifier.verify(pretrained.input)
    logits, features = classifier(images)

    assert torch.equal(logits, expected_logits)
    assert torch.equal(features["pooled"], expected_features)
    assert features["pooled"].shape == (2, classifier.feature_dim)
    torch.testing.assert_close(classifier.head(features["pooled"]), logits)


def test_fresh_head_has_small_normal_weights_and_zero_bias_and_leaves_the_global_stream_alone(pretrained: Pretrained) -> None:
    classifier = Classifier(pretrained.net, pretrained.head_name)
    state = torch.get_rng_state()
    classifier.reset_head(200, seed=3)
    assert torch.equal(torch.get_rng_state(), state)

    weight = classifier.head.weight.detach()
    count = weight.numel()
    assert weight.shape == (200, classifier.feature_dim)
    assert not classifier.head.bias.any()
    assert classifier.head.bias.requires_grad
    assert classifier.head.weight.requires_grad
    assert abs(float(weight.mean())) < 4 * 0.01 / count**0.5  # 4 standard errors
    assert abs(float(weight.std()) / 0.01 - 1) < 4 / (2 * count) ** 0.5
    assert classifier(images_for(pretrained)).logits.shape == (2, 200)


def test_fresh_head_depends_on_its_seed_alone() -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.rand(seed + 5)
        classifier = Classifier(small_networks.linear_net())
        classifier.reset_head(3, seed)
        heads.append(classifier.head.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_without_bias_gets_one() -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False)))
    classifier.reset_head(3, seed=0)
    assert classifier.head.bias is not None


def test_wrapping_and_a_new_head_keep_the_names_of_the_state_dict(pretrained: Pretrained) -> None:
    before = list(pretrained.net.state_dict())
    classifier = Classifier(pretrained.net, pretrained.head_name)
    classifier.reset_head(7, seed=0)
    assert list(classifier.net.state_dict()) == before
    assert classifier.net is pretrained.net

    names = [name for name, _ in classifier.net.named_parameters()]
    head = [name for name, _ in classifier.head_parameters()]
    assert head == [f"{pretrained.head_name}.weight", f"{pretrained.head_name}.bias"]
    assert [name for name, _ in classifier.backbone_parameters()] == [name for name in names if name not in head]


def test_a_deep_copy_is_independent_and_complete(pretrained: Pretrained) -> None:
    classifier = Classifier(pretrained.net, pretrained.head_name).eval()
    images = images_for(pretrained)
    before = classifier(images)
    twin = copy.deepcopy(classifier)
    with torch.no_grad():
        classifier.head.weight.add_(1)
    after = twin(images)
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.features["pooled"], before.features["pooled"])
    twin.reset_head(3, seed=0)
    assert twin(images).features["pooled"].shape == (2, classifier.feature_dim)
    assert classifier(images).logits.shape == before.logits.shape


def test_nothing_of_a_forward_pass_stays_behind() -> None:
    classifier = Classifier(small_networks.linear_net())
    outputs = classifier(torch.randn(2, 3, 8, 8))
    pooled = weakref.ref(outputs.features["pooled"])
    del outputs
    gc.collect()
    assert pooled() is None


def test_running_the_bare_network_stores_nothing() -> None:
    net = small_networks.linear_net()
    classifier = Classifier(net)
    seen: list[weakref.ref[Tensor]] = []
    net[-1].register_forward_pre_hook(lambda module, inputs: seen.append(weakref.ref(inputs[0])))
    net(torch.randn(2, 3, 8, 8))
    gc.collect()
    assert [reference() for reference in seen] == [None]
    assert classifier(torch.randn(2, 3, 8, 8)).features["pooled"].shape == (2, 8)


def test_the_old_head_is_no_longer_watched_after_a_new_one() -> None:
    classifier = Classifier(small_networks.linear_net())
    old = classifier.head
    classifier.reset_head(3, seed=0)
    assert not old._forward_pre_hooks


def test_verify_leaves_modes_statistics_and_random_state_as_they_were(pretrained: Pretrained) -> None:
    classifier = Classifier(pretrained.net, pretrained.head_name).train()
    next(classifier.net.children()).eval()
    modes = [module.training for module in classifier.modules()]
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    random_state = torch.get_rng_state()
    classifier.verify(pretrained.input)
    assert [module.training for module in classifier.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in classifier.state_dict().items())


@pytest.mark.parametrize(
    ("network", "head", "sentence"),
    [
        (small_networks.TokenHead, None, r"shape \(2, 4, 8\), expected \(B, D\): pool them"),
        (small_networks.ScaledLogits, None, "the logits of the network are not the output of 'body.4'"),
        (small_networks.linear_net, "2", "the logits of the network are not the output of '2'"),
        (small_networks.UnusedLinear, None, "'projector': this layer takes no part in the forward pass"),
        (small_networks.TwoOutputs, None, "returns a tuple instead of logits"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), None, "failed on images of shape 2 x 3 x 32 x 32"),
    ],
)
def test_verify_names_what_makes_a_network_unusable(network: type[nn.Module], head: str | None, sentence: str) -> None:
    classifier = Classifier(network(), head)
    with pytest.raises(ModelError, match=sentence):
        classifier.verify(InputSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


def test_verify_takes_a_batch_where_no_image_size_is_known() -> None:
    Classifier(nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 2))).verify(torch.randn(3, 10))


def test_find_head_of_networks_that_have_none_or_two() -> None:
    import timm
    import torchvision

    with pytest.raises(ModelError, match=r"SqueezeNet\) has no Linear layer"):
        find_head(torchvision.models.squeezenet1_1())
    with pytest.raises(ModelError, match=r"is an Identity \(no classifier\)"):
        find_head(timm.create_model("resnet18", num_classes=0))
    with pytest.raises(ModelError, match="2 heads, as distilled networks do"):
        find_head(timm.create_model("deit_tiny_distilled_patch16_224"))
    with pytest.raises(ModelError, match="is a Conv2d, not a Linear layer"):
        find_head(timm.create_model("resnetv2_50", num_classes=2))


def test_find_head_suggests_a_layer_for_a_mistyped_name() -> None:
    net = load_pretrained("timm:resnet18", weights="random", image_size=32).net
    with pytest.raises(ModelError, match=r"--head 'fcc' is no layer of the network. Did you mean 'fc'\?"):
        find_head(net, "fcc")
    with pytest.raises(ModelError, match="--head 'conv1' is a Conv2d, not a Linear layer"):
        find_head(net, "conv1")


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name == "torchvision-convnext" else pytest.mark.slow) for name in FAMILIES]
)
def test_compiled_in_place_gives_the_same_values_and_gradients(family: str) -> None:
    pretrained = load_family(family)
    classifier = Classifier(pretrained.net, pretrained.head_name)
    classifier.reset_head(5, seed=0)
    freeze_batchnorm(classifier)
    twin = copy.deepcopy(classifier)
    names = list(classifier.state_dict())
    classifier.compile(backend="aot_eager", fullgraph=True)
    images = images_for(pretrained)
    for model in (classifier, twin):
        logits, features = model(images)
        (logits.logsumexp(1).mean() + features["pooled"].square().mean()).backward()
    compiled, eager = classifier(images), twin(images)
    torch.testing.assert_close(compiled.logits, eager.logits)
    torch.testing.assert_close(compiled.features["pooled"], eager.features["pooled"])
    for (name, parameter), other in zip(classifier.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert list(classifier.state_dict()) == names
    copy.deepcopy(classifier)


def test_a_head_cannot_be_replaced_after_compiling() -> None:
    classifier = Classifier(small_networks.linear_net())
    classifier.compile(backend="eager")
    with pytest.raises(ModelError, match=r"replace the head before classifier.compile\(\)"):
        classifier.reset_head(3, seed=0)


def test_frozen_batchnorm_keeps_its_statistics_through_train_mode_and_copies() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 2))
    assert freeze_batchnorm(net) == 1
    for module in (net, copy.deepcopy(net)):
        assert module.train() is module
        assert [layer.training for layer in module] == [True, False, True, True, True]
        before = module[1].running_mean.clone()
        module(torch.randn(3, 3, 4, 4)).sum().backward()
        assert torch.equal(module[1].running_mean, before)
        assert module[1].weight.grad is not None
        assert module[1].weight.grad.any()


def test_freezing_a_copy_leaves_the_original_alone() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4))
    freeze_batchnorm(copy.deepcopy(net))
    net.train()
    assert net[0].training


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "densenet121"])
def test_synchronized_batchnorm_computes_the_same_network(name: str) -> None:
    net = timm.create_model(name, num_classes=3).eval()
    shared = copy.deepcopy(net)
    synchronize_batchnorm(shared)
    assert not any(type(layer) in (nn.BatchNorm2d, timm.layers.BatchNormAct2d) for layer in shared.modules())
    assert shared.state_dict().keys() == net.state_dict().keys()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shared(images), net(images))
