"""The classifier that methods train before a run: plain SGD, the same on every rank, no trace elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.distributed import SingleProcess
from holdfast.errors import NonFiniteError
from holdfast.models.classifier import Classifier
from holdfast.models.target_classifier import SGD, train_classifier
from holdfast.types import Batch


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 5), nn.Linear(5, 3)).double()


def batches(epoch: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(3):
        labels = torch.randint(3, (8,), generator=generator)
        yield Batch(torch.randn(8, 6, generator=generator, dtype=torch.float64), labels, torch.full_like(labels, -1))


def trained(*, epochs: int = 8, sgd: SGD | None = None, backbone: bool = True, seed: int = 3) -> nn.Module:
    classifier = Classifier(network())
    train_classifier(classifier, batches, SingleProcess(), epochs=epochs, sgd=sgd or SGD(), backbone=backbone, seed=seed)
    return classifier.net


def assert_same(net: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(net.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("sgd", [SGD(), SGD(lr=0.02, head_lr=0.2, momentum=0.5, weight_decay=1e-2), SGD(momentum=0.0)])
def test_it_is_sgd_whose_rate_falls_to_a_tenth_in_six_epochs(sgd: SGD) -> None:
    net = network()
    optimizer = torch.optim.SGD(
        [{"params": net[5].parameters(), "lr": sgd.head_lr}, {"params": net[:5].parameters(), "lr": sgd.lr}],
        momentum=sgd.momentum,
        nesterov=sgd.momentum > 0,
        weight_decay=sgd.weight_decay,
    )
    torch.manual_seed(3)
    for epoch in range(8):
        for group, rate in zip(optimizer.param_groups, (sgd.head_lr, sgd.lr), strict=True):
            group["lr"] = rate / 10 ** (epoch / 6)
        for batch in batches(epoch):
            optimizer.zero_grad()
            F.cross_entropy(net(batch.inputs), batch.labels).backward()
            optimizer.step()
    torch.testing.assert_close(dict(trained(sgd=sgd).state_dict()), dict(net.state_dict()), rtol=1e-10, atol=1e-12)


def test_it_is_at_rest_afterwards_and_takes_no_gradient() -> None:
    for net in (trained(), trained(backbone=False)):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())


def test_the_head_alone_learns_on_features_of_the_network_at_rest() -> None:
    net, start = trained(backbone=False), network()
    assert_same(net[:5], start[:5])
    assert not torch.equal(net[5].weight, start[5].weight)
    # At rest there is no dropout, so its seed does not matter.
    assert_same(net, trained(backbone=False, seed=4))


def test_the_result_depends_on_its_own_seed_alone_and_leaves_that_of_others() -> None:
    classifier = Classifier(network())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_classifier(classifier, batches, SingleProcess(), epochs=8, sgd=SGD(), seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert_same(classifier.net, trained())
    assert not torch.equal(classifier.net[0].weight, trained(seed=4)[0].weight)


def test_without_epochs_nothing_moves() -> None:
    assert_same(trained(epochs=0), network())


def test_frozen_batchnorm_keeps_its_statistics() -> None:
    net = trained(sgd=SGD(train_batchnorm=False))
    assert torch.equal(net[1].running_mean, network()[1].running_mean)
    assert not torch.equal(trained()[1].running_mean, network()[1].running_mean)


class Half(SingleProcess):
    """Rank 0 of two, whose partner has the other half of the rows: what it would send is computed here."""

    size = 2

    def __init__(self, partner: list[Tensor]) -> None:
        self.partner = partner

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor + self.partner.pop(0)


def test_two_ranks_take_the_step_of_one() -> None:
    """Without BatchNorm and dropout, where halves of a batch make the whole."""
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    (whole,) = [next(batches(0))]
    halves = [Batch(whole.inputs[rows], whole.labels[rows], whole.index[rows]) for rows in (slice(4), slice(4, 8))]
    partner = copy.deepcopy(net)
    (F.cross_entropy(partner(halves[1].inputs), halves[1].labels, reduction="sum") / 8).backward()
    sent = [torch.tensor(4), *(parameter.grad for parameter in partner.parameters())]
    both, one = Classifier(copy.deepcopy(net)), Classifier(copy.deepcopy(net))
    train_classifier(both, lambda epoch: halves[:1], Half(sent), epochs=1, sgd=SGD())
    train_classifier(one, lambda epoch: [whole], SingleProcess(), epochs=1, sgd=SGD())
    torch.testing.assert_close(dict(both.net.state_dict()), dict(one.net.state_dict()), rtol=1e-12, atol=1e-15)


def test_ranks_share_the_mean_of_their_batchnorm_statistics() -> None:
    net, alone = Classifier(network()), Classifier(network())
    zeros = [torch.zeros(()), *(torch.zeros_like(parameter) for parameter in net.parameters())] * 24
    partner = [*zeros, torch.full((8,), 5.0, dtype=torch.float64), torch.full((8,), 7.0, dtype=torch.float64)]
    train_classifier(net, batches, Half(partner), epochs=8, sgd=SGD(), seed=3)
    train_classifier(alone, batches, SingleProcess(), epochs=8, sgd=SGD(), seed=3)
    torch.testing.assert_close(net.net[1].running_mean, (alone.net[1].running_mean + 5) / 2)
    torch.testing.assert_close(net.net[1].running_var, (alone.net[1].running_var + 7) / 2)


def test_a_training_that_breaks_is_said() -> None:
    with pytest.raises(NonFiniteError, match="trains before the run became NaN or infinite; start again with a lower --lr"):
        trained(sgd=SGD(lr=1e300, head_lr=1e300))
