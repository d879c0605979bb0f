from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from holdfast import attach
from holdfast.losses.bi_tuning import BiTuning
from holdfast.losses.functional import enqueue_by_class, queue_contrast


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs))


def batch(seed: int, count: int = 8) -> tuple[Tensor, Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 6, generator=generator),
        torch.randint(3, (count,), generator=generator),
        [torch.randn(count, 6, generator=generator)],
    )


def test_the_contrast_is_the_divergence_from_the_uniform_distribution() -> None:
    queries, own, queue, labels = random(4, 3), random(4, seed=1), random(3, 2, 5, seed=2), torch.tensor([0, 1, 1, 0])
    found = queue_contrast(queries, own, queue, labels, temperature=0.5)
    for i in range(4):
        y = int(labels[i])
        row = [float(own[i])] + [float(queries[i] @ queue[:, y, j]) for j in range(5)]
        row += [float(queries[i] @ queue[:, c, j]) for c in range(2) if c != y for j in range(5)]
        normalizer = math.log(sum(math.exp(value / 0.5) for value in row))
        expected = sum((math.log(1 / 6) - (value / 0.5 - normalizer)) / 6 for value in row[:6])
        assert float(found[i]) == pytest.approx(expected, rel=1e-12)


def test_more_keys_of_a_class_than_its_queue_holds_leave_the_last() -> None:
    keys, labels = torch.arange(1.0, 9.0)[:, None], torch.tensor([0, 0, 1, 0, 0, 0, 1, 0])
    queue, pointer = torch.zeros(1, 2, 3), torch.tensor([2, 1])
    expected, place = queue.clone(), pointer.tolist()
    for key, label in zip(keys, labels.tolist(), strict=True):  # one after the other
        expected[:, label, place[label]] = key
        place[label] = (place[label] + 1) % 3
    found, moved = enqueue_by_class(queue, pointer, keys, labels)
    assert torch.equal(found, expected)
    assert moved.tolist() == place
    assert not bool(queue.any())
    assert pointer.tolist() == [2, 1]


def test_the_key_encoder_has_batchnorm_statistics_of_its_own() -> None:
    net, term = Net(), BiTuning(queue_length=4, width=3, momentum=0.5)
    inputs, labels, views = batch(0)
    terms = attach(net.train(), [term], [(inputs, labels)], num_classes=3)
    terms.loss(inputs, labels, views=views)
    expected = 0.1 * net.body[0](views[0]).mean(0)
    running_mean = slice(30 + 5 + 5 + 5, 30 + 5 + 5 + 5 + 5)  # after the Linear and the affine of BatchNorm
    assert not bool(term.key_state[running_mean].any())  # not before the update is applied
    terms.after_step()
    torch.testing.assert_close(term.key_state[running_mean], expected.detach())
    torch.testing.assert_close(net.body[1].running_mean, 0.1 * net.body[0](inputs).mean(0).detach())
    assert int(net.body[1].num_batches_tracked) == int(term.key_counters) == 1


def test_the_key_encoder_follows_with_momentum() -> None:
    net, term = Net(), BiTuning(queue_length=4, width=3, momentum=0.75)
    inputs, labels, views = batch(0)
    terms = attach(net, [term], [(inputs, labels)], num_classes=3)
    start = net.body[0].weight.detach().clone()
    terms.loss(inputs, labels, views=views)
    with torch.no_grad():
        net.body[0].weight.add_(1)
        term.projector_bias.add_(2)
    before = term.key_projector_bias.clone()
    terms.after_step()
    torch.testing.assert_close(term.key_state[:30].view(5, 6), start + 0.25)
    torch.testing.assert_close(term.key_projector_bias, before + 0.5)


def test_gradients_reach_network_projector_and_head_but_not_the_keys() -> None:
    net, term = Net(), BiTuning(queue_length=4, width=3)
    inputs, labels, views = batch(0)
    terms = attach(net, [term], [(inputs, labels)], num_classes=3)
    views[0].requires_grad_()
    terms.loss(inputs, labels, views=views).backward()
    assert views[0].grad is None
    assert all(bool(parameter.grad.any()) for parameter in (net.body[0].weight, net.head.weight, term.projector_weight))


def test_a_head_without_bias_counts_as_bias_zero() -> None:
    values = []
    for bias in (True, False):
        torch.manual_seed(0)
        net, term = Net(), BiTuning(queue_length=4, width=3)
        if bias:
            nn.init.zeros_(net.head.bias)
        else:
            net.head.bias = None
        inputs, labels, views = batch(0)
        terms = attach(net, [term], [(inputs, labels)], num_classes=3)
        values.append(float(terms.loss(inputs, labels, views=views).detach()))
    assert values[0] == values[1]
