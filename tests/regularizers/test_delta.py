"""DELTA as a method: which layers, which sums, what attention is found, and what it says where it cannot work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import attach
from holdfast.attach import Attached
from holdfast.distributed import SingleProcess
from holdfast.errors import ConfigError, ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.glyphnet import glyphnet
from holdfast.models.target_classifier import SGD, train_classifier
from holdfast.regularizers.ablation import loss_gaps
from holdfast.regularizers.delta import Delta
from holdfast.regularizers.functional import channel_attention
from holdfast.testing import SmallNet
from holdfast.types import Batch

K = 3


def data(rows: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 6, generator=generator, dtype=torch.float64), torch.randint(K, (rows,), generator=generator)


def pair() -> tuple[SmallNet, SmallNet]:
    """A network that has left its start, and its start."""
    net, start = SmallNet(K, seed=1).double(), SmallNet(K).double()
    return net, start


def attached(net: nn.Module, start: nn.Module, *, accumulate: int = 1, **options: Any) -> Attached:
    method = [{"name": "delta", "layers": "body.0,body.2", "attention": False, **options}]
    return attach(net, method, [data(seed=5), data(seed=6)], num_classes=K, pretrained=start, accumulate=accumulate, seed=2)


def squares(net: SmallNet, start: SmallNet, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Squared differences of the two layers, row by row and channel by channel."""
    with torch.no_grad():
        return (net.body[0](inputs) - start.body[0](inputs)).square(), (net.body(inputs) - start.body(inputs)).square()


def test_it_is_half_the_squared_distance_of_the_maps_and_half_the_squared_norm_of_the_head() -> None:
    net, start = pair()
    terms = attached(net, start, weight=0.3, head_weight=0.7)
    inputs, labels = data()
    total = terms.loss(inputs, labels)
    values = terms.values
    assert list(values) == ["cross-entropy", "delta/backbone", "delta/head"]
    assert values["delta/backbone"] == pytest.approx(sum(float(part.sum()) for part in squares(net, start, inputs)) / 2, rel=1e-12)
    assert values["delta/head"] == pytest.approx(sum(float(p.detach().square().sum()) for p in net.head.parameters()) / 2, rel=1e-12)
    expected = values["cross-entropy"] + 0.3 * values["delta/backbone"] + 0.7 * values["delta/head"]
    assert total.item() == pytest.approx(expected, rel=1e-12)


def test_the_mean_is_the_sum_over_the_batch_divided_by_its_size() -> None:
    net, start = pair()
    whole, mean = attached(net, start), attached(net, start, reduction="mean")
    for terms in (whole, mean):
        terms.loss(*data())
    assert mean.values["delta/backbone"] == pytest.approx(whole.values["delta/backbone"] / 8, rel=1e-12)
    assert mean.values["delta/head"] == whole.values["delta/head"]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_micro_batches_add_up_to_the_batch(reduction: str) -> None:
    grads = []
    for accumulate in (1, 4):
        net, start = pair()
        terms = attached(net, start, accumulate=accumulate, reduction=reduction)
        for inputs, labels in zip(*(part.chunk(accumulate) for part in data()), strict=True):
            terms.loss(inputs, labels).backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    for whole, parts in zip(*grads, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-13)


def test_the_pretrained_network_stays_as_it_is_and_runs_no_further_than_the_last_layer() -> None:
    net, start = pair()
    terms = attach(net, [{"name": "delta", "layers": "body.0", "attention": False}], num_classes=K, pretrained=start)
    reference = terms._context.reference
    before = copy.deepcopy(dict(reference.weights))
    later: list[object] = []
    reference._classifier.net.body[2].register_forward_hook(lambda *_: later.append(1))
    terms.loss(*data()).backward()
    assert not later
    torch.testing.assert_close(dict(reference.weights), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in reference.parameters())


def test_batchnorm_of_the_batch_sets_the_maps_apart_at_the_start() -> None:
    torch.manual_seed(0)
    net = glyphnet(K)
    terms = attach(net.train(), [{"name": "delta", "attention": False}], num_classes=K)
    images, labels = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64)
    terms.loss(images, labels)
    assert terms.values["delta/backbone"] > 1
    terms.after_step()
    net.eval()
    same = attach(net, [{"name": "delta", "attention": False}], num_classes=K)
    same.loss(images, labels)
    assert same.values["delta/backbone"] == 0


# ------------------------------------------------------------------------------------------------------------------- attention


def test_attention_is_found_on_a_classifier_trained_from_the_pretrained_network() -> None:
    net, start = pair()
    terms = attached(net, start, attention=True, attention_epochs=3, attention_batches=1)
    classifier = Classifier(copy.deepcopy(start))
    classifier.reset_head(K, seed=2)
    batches = [Batch(inputs, labels, labels) for inputs, labels in (data(seed=5), data(seed=6))]
    train_classifier(classifier, lambda epoch: batches, SingleProcess(), epochs=3, sgd=SGD(), seed=2)
    gaps = loss_gaps(classifier.net, ["body.0", "body.2"], batches[:1], SingleProcess())
    expected = torch.cat([channel_attention(gap) for gap in gaps])
    assert torch.equal(terms.objective.terms[-1].channel_weights, expected)
    assert expected.std() > 0.01


def test_attention_weighs_the_channels_of_each_layer() -> None:
    net, start = pair()
    terms = attached(net, start, attention=True, attention_epochs=0)
    first, second = terms.objective.terms[-1].channel_weights.split([8, 5])
    inputs, labels = data()
    terms.loss(inputs, labels)
    by_channel = [part.sum(0) for part in squares(net, start, inputs)]
    expected = (8 * (first * by_channel[0]).sum() + 5 * (second * by_channel[1]).sum()) / 2
    assert terms.values["delta/backbone"] == pytest.approx(float(expected), rel=1e-12)


def test_its_options_reach_the_training_of_the_classifier() -> None:
    found = []
    for options in ({}, {"attention_train_backbone": False}, {"attention_epochs": 1}, {"attention_batches": 1}):
        terms = attached(*pair(), **{"attention": True, "attention_epochs": 2, **options})
        found.append(terms.objective.terms[-1].channel_weights)
    for number, weights in enumerate(found):
        assert not any(torch.equal(weights, other) for other in found[:number])


def test_filters_are_taken_out_on_batches_of_an_epoch_after_those_of_the_training() -> None:
    asked: dict[str, Any] = {}

    class Recording:
        comm = SingleProcess()

        def fit_classifier(self, **options: Any) -> nn.Module:
            asked.update(options)
            return SmallNet(K).double()

        def shuffled(self, batch_size: int, epoch: int) -> list[Batch]:
            asked["shuffled"] = (batch_size, epoch)
            inputs, labels = data()
            return [Batch(inputs, labels, labels)]

    source: Any = Recording()
    Delta(layers="body.0", attention=True, attention_epochs=7, attention_batch_size=5).setup(source)
    assert asked == {"epochs": 7, "batch_size": 5, "backbone": True, "shuffled": (5, 7)}


def test_without_attention_nothing_is_trained_and_no_batches_are_asked_for() -> None:
    terms = attach(SmallNet(K), [{"name": "delta", "layers": "body.0", "attention": False}], num_classes=K)
    assert terms.objective.terms[-1].channel_weights is None


# -------------------------------------------------------------------------------------------------------------------- mistakes


def test_layers_of_an_unknown_network_are_offered() -> None:
    sentence = "delta: which layers of a SmallNet to compare is not known. Name some, as in --method.layers body.2; it has body.0, body.2."
    with pytest.raises(ConfigError) as caught:
        attach(SmallNet(K), [{"name": "delta", "attention": False}], num_classes=K)
    assert str(caught.value) == sentence


def test_a_network_of_nothing_but_a_head_has_no_layers() -> None:
    with pytest.raises(ConfigError, match="It has none but the head, so choose another network or method"):
        attach(nn.Sequential(nn.Flatten(), nn.Linear(6, K)), [{"name": "delta", "attention": False}], num_classes=K)


def test_a_layer_that_is_not_there_is_named_with_the_nearest() -> None:
    sentence = (
        r"delta: --method.layers 'block1.conv2, blok2.conv2' names 'blok2.conv2', but the network has no such layer. "
        r"Did you mean 'block2.conv2', .*\? Name some, as in --method.layers .*; it has stem.0, block1.conv1, .*, block3.downsample.0\."
    )
    with pytest.raises(ConfigError, match=sentence):
        Delta(layers="block1.conv2, blok2.conv2").layers(glyphnet(K))


def test_named_layers_are_taken_in_their_order_without_repeats() -> None:
    assert Delta(layers="block2.conv2, block1.conv2,block2.conv2").layers(glyphnet(K)) == ("block2.conv2", "block1.conv2")


def test_a_layer_that_runs_twice_or_never_is_refused() -> None:
    inputs, labels = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ModelError, match=r"the layer 'block1.relu' runs more than once in a forward pass, so it has no one output"):
        attach(glyphnet(K), [{"name": "delta", "layers": "block1.relu", "attention": False}], num_classes=K).loss(inputs, labels)

    class Idle(SmallNet):
        def __init__(self) -> None:
            super().__init__(K)
            self.unused = nn.Linear(6, 6)

    terms = attach(Idle(), [{"name": "delta", "layers": "unused", "attention": False}], num_classes=K, head="head")
    with pytest.raises(ModelError, match="the layer 'unused' takes no part in the forward pass, so it has no output; name another"):
        terms.loss(torch.zeros(2, 6), labels)
