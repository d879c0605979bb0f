from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started

from holdfast import attach
from holdfast.errors import ConfigError
from holdfast.losses.functional import mix_rows, mixup_cross_entropy
from holdfast.losses.mixup import Mixup
from holdfast.step import Draws, Rows
from holdfast.testing import SmallNet
from holdfast.types import Batch


class TwoRanks:
    """Gathers what the other rank has, in rank order."""

    size = 2

    def __init__(self, rank: int, batches: list[Batch], classes: int) -> None:
        self.rank = rank
        self.known = [
            torch.cat([batch.inputs for batch in batches]),
            torch.cat([torch.nn.functional.one_hot(batch.labels, classes).float() for batch in batches]),
        ]

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.known.pop(0)


ALONE = SimpleNamespace(rank=0, size=1, gather=lambda tensor: tensor)


def draws(step: int = 0) -> Draws:
    return Draws(3, "mixup", step, Rows(0, 0, 0))


def batch_of(rows: slice = slice(None)) -> Batch:
    inputs, labels = examples()
    return Batch(inputs[rows], labels[rows], torch.arange(16)[rows])


def test_inputs_and_targets_are_mixed_with_one_share_and_one_order() -> None:
    batch = batch_of()
    mixed = Mixup(alpha=1.0).prepare(batch, draws(), ALONE, 3)
    onehot = torch.nn.functional.one_hot(batch.labels, 3).float()
    generator = draws().shared()
    share = float(torch.rand((), generator=generator, dtype=torch.float64))  # Beta(1, 1) is uniform
    order = torch.randperm(16, generator=generator)
    torch.testing.assert_close(mixed.inputs, share * batch.inputs + (1 - share) * batch.inputs[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mixed.targets, share * onehot + (1 - share) * onehot[order], rtol=1e-6, atol=1e-6)
    assert torch.equal(mixed.labels, batch.labels)


def test_loss_in_a_plain_loop_is_that_of_the_formula() -> None:
    inputs, labels = examples()
    terms = started({"name": "mixup", "alpha": 1.0})
    seen = []
    terms.objective.model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    total = float(terms.loss(inputs, labels).detach())
    (mixed,) = seen
    # The order and the share, read off the inputs: for each row, the pair whose line it lies on.
    share = order = None
    for candidate in range(16):
        direction = inputs[0] - inputs[candidate]
        along = float(((mixed[0] - inputs[candidate]) @ direction) / (direction @ direction)) if candidate else 1.0
        if torch.allclose(inputs[candidate] + along * direction, mixed[0]) and candidate:
            share = along
    assert share is not None
    order = torch.tensor([int(((share * inputs[row] + (1 - share) * inputs) - mixed[row]).norm(dim=1).argmin()) for row in range(16)])
    assert sorted(order.tolist()) == list(range(16))
    assert total == pytest.approx(float(mixup_cross_entropy(logits_of(terms, mixed), labels, labels[order], share)), rel=1e-5)


def test_two_ranks_mix_as_one() -> None:
    whole = Mixup().prepare(batch_of(), draws(), ALONE, 3)
    parts = [batch_of(slice(8)), batch_of(slice(8, None))]
    mixed = [Mixup().prepare(parts[rank], draws(), TwoRanks(rank, parts, 3), 3) for rank in range(2)]
    assert torch.equal(torch.cat([part.inputs for part in mixed]), whole.inputs)
    assert torch.equal(torch.cat([part.targets for part in mixed]), whole.targets)


def test_shares_follow_the_beta_distribution() -> None:
    shares = torch.tensor([Mixup(alpha=0.2)._share(draws(step).shared()) for step in range(2000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * 1.4), abs=0.01)  # 1 / (4 (2α + 1))


def test_methods_for_hard_labels_refuse_mixed_ones() -> None:
    inputs, labels = examples()
    terms = attach(SmallNet(3).double(), "mixup+adarand", [(inputs, labels)], num_classes=3)
    with pytest.raises(ConfigError, match="method 'adarand' needs hard labels"):
        terms.loss(inputs, labels)
    other = attach(SmallNet(3).double(), "mixup+fnp", [(inputs, labels)], num_classes=3)
    other.loss(inputs, labels).backward()
    assert set(other.values) == {"mixup", "fnp"}


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3, dtype=torch.int64), {"input_ids": torch.zeros(2, 3)}])
def test_token_ids_are_not_mixed(inputs) -> None:
    with pytest.raises(ConfigError, match="method 'mixup' mixes inputs, which must be floating-point tensors"):
        mix_rows(inputs, inputs, 0.5)
    labels = torch.tensor([0, 1])
    with pytest.raises(ConfigError, match="method 'mixup' mixes inputs"):
        Mixup().prepare(Batch(inputs, labels, labels), draws(), ALONE, 2)
