"""BatchNorm statistics of averaged weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.averaging.batchnorm import differing_statistics, reestimate
from holdfast.models.classifier import freeze_batchnorm
from holdfast.types import Batch


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))


def batches(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    labels = [torch.zeros(size, dtype=torch.int64) for size in sizes]
    return [Batch(torch.randn(len(own), 2, 4, 4, generator=generator), own, own) for own in labels]


def estimated(net: nn.Module, layers: set[str], shown: list[Batch]) -> None:
    def run(inputs: Any) -> None:
        net(inputs)

    reestimate(net, layers, shown, run)


def variance(values: Tensor) -> Tensor:
    return values.transpose(0, 1).flatten(1).var(dim=1)


def test_statistics_are_the_means_over_batches_of_what_the_layer_sees_without_dropout():
    net, shown = network(), batches(6, 6, 6)
    estimated(net, {"1", "4"}, shown)
    seen = [net[0](batch.inputs).detach() for batch in shown]
    torch.testing.assert_close(net[1].running_mean, torch.stack([one.mean(dim=(0, 2, 3)) for one in seen]).mean(dim=0))
    torch.testing.assert_close(net[1].running_var, torch.stack([variance(one) for one in seen]).mean(dim=0))

    # The second layer sees what the first makes of each batch in training, and no dropout.
    def through_first(values: Tensor) -> Tensor:
        mean, spread = values.mean(dim=(0, 2, 3), keepdim=True), values.var(dim=(0, 2, 3), keepdim=True, correction=0)
        return net[3]((values - mean) / (spread + net[1].eps).sqrt())

    second = [through_first(one).detach().mean(dim=(0, 2, 3)) for one in seen]
    torch.testing.assert_close(net[4].running_mean, torch.stack(second).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_the_network_is_left_in_eval_mode_with_its_momentum_and_other_layers_as_they_were():
    net = network()
    before = copy.deepcopy(net.state_dict())
    estimated(net, {"4"}, batches(4, 4))
    assert not any(module.training for module in net.modules())
    assert net[4].momentum == 0.1
    after = net.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"4.running_mean", "4.running_var", "4.num_batches_tracked"}


def test_a_smaller_last_batch_does_not_count():
    whole, cut = network(), network()
    shown = batches(5, 5, 1)
    estimated(whole, {"1"}, shown[:2])
    estimated(cut, {"1"}, shown)
    assert torch.equal(whole[1].running_mean, cut[1].running_mean)


def test_a_layer_that_was_frozen_for_training_is_estimated_where_it_is_asked_for():
    net = network()
    freeze_batchnorm(net)
    estimated(net, {"1"}, batches(4))
    assert net[1].running_mean.abs().sum() > 0
    assert not net.train()[1].training  # and frozen it stays


def test_only_layers_whose_statistics_moved_differ():
    first, second = network(), network()
    assert differing_statistics([first.state_dict(), second.state_dict()]) == set()
    second[4].running_var.mul_(2)
    assert differing_statistics([first.state_dict(), first.state_dict(), second.state_dict()]) == {"4"}
