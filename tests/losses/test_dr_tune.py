"""DR-Tune over steps, beyond what the reference files exercise."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast import attach
from holdfast.attach import Attached
from holdfast.errors import DataError
from holdfast.losses.dr_tune import DRTune
from holdfast.losses.functional import calibrate_queue
from holdfast.testing import SmallNet
from holdfast.types import Batch

CLASSES, WIDTH = 4, 5


def rows(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(CLASSES - 1, (count,), generator=generator)


def started(term: DRTune, *, examples: int = 30, pretrained: nn.Module | None = None, **options: object) -> Attached:
    return attach(
        SmallNet(CLASSES), [term], [rows(examples, 9)], num_classes=CLASSES, pretrained=pretrained or SmallNet(CLASSES, seed=5), **options
    )


def train(terms: Attached, *seeds: int, count: int = 6) -> None:
    for seed in seeds:
        terms.loss(*rows(count, seed))
        terms.after_step()


def test_the_loss_and_its_gradient_are_those_of_batch_and_constant_queue() -> None:
    term = DRTune(queue_size=8)
    terms = started(term)
    net = terms.objective.model.net
    train(terms, 1, 2)
    inputs, labels = rows(6, 3)
    terms.loss(inputs, labels).backward()
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()
    features = net.body(inputs)
    calibrated = calibrate_queue(
        term.pretrained, term.live, term.queue_labels, net.head.weight.detach(), features.detach().norm(dim=1).mean(), rotate=False
    )
    every = torch.cat([features, calibrated])
    F.cross_entropy(net.head(every), torch.cat([labels, term.queue_labels])).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_a_batch_that_does_not_divide_the_queue_wraps_inside() -> None:
    term = DRTune(queue_size=8)
    frozen = SmallNet(CLASSES, seed=5)
    terms = started(term, pretrained=frozen)
    live, pretrained, labels = (tensor.clone() for tensor in (term.live, term.pretrained, term.queue_labels))
    net, pointer = terms.objective.model.net, 0
    for seed in (1, 2, 3):
        inputs, classes = rows(6, seed)
        with torch.no_grad():
            for number in range(6):
                slot = (pointer + number) % 8
                live[slot], pretrained[slot], labels[slot] = net.body(inputs)[number], frozen.body(inputs)[number], classes[number]
        pointer = (pointer + 6) % 8
        train(terms, seed)
        assert int(term.pointer) == pointer
        for ours, expected in ((term.live, live), (term.pretrained, pretrained), (term.queue_labels, labels)):
            torch.testing.assert_close(ours, expected)


def test_a_batch_larger_than_the_queue_leaves_its_last_rows() -> None:
    term = DRTune(queue_size=4)
    terms = started(term)
    train(terms, 1)
    _, labels = rows(6, 1)
    assert int(term.pointer) == 2
    assert term.queue_labels.tolist() == [labels[4], labels[5], labels[2], labels[3]]


def test_a_skipped_update_enqueues_nothing() -> None:
    term = DRTune(queue_size=8)
    terms = started(term)
    before = copy.deepcopy(term.state_dict())
    terms.loss(*rows(6, 1))
    terms.discard_step()
    terms.after_step()
    for name in DRTune.STATE:
        assert torch.equal(getattr(term, name), before[name])


def test_the_queue_is_rotated_every_few_steps_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    rotated: list[bool] = []

    def calibrate(*arguments: object, rotate: bool) -> Tensor:
        rotated.append(rotate)
        return calibrate_queue(*arguments, rotate=rotate)

    monkeypatch.setattr("holdfast.losses.dr_tune.calibrate_queue", calibrate)
    terms = started(DRTune(queue_size=8, rotation_every=3))
    train(terms, 1, 2, 3, 4, 5)
    terms.start_epoch(1)
    train(terms, 6, 7)
    assert rotated == [True, False, False, True, False, True, False]


def test_micro_batches_weigh_their_rows_and_the_queue_as_the_whole_batch_does() -> None:
    # With the queue's class scores all equal, the length of its features, in which micro-batches differ, does not matter.
    totals, grads = [], []
    for parts in (1, 3):
        term = DRTune(queue_size=8)
        terms = started(term, accumulate=parts)
        net = terms.objective.model.net
        with torch.no_grad():
            net.head.weight.zero_()
        inputs, labels = rows(6, 1)
        losses = [terms.loss(*part) for part in zip(inputs.chunk(parts), labels.chunk(parts), strict=True)]
        sum(losses).backward()
        totals.append(sum(losses).detach())
        grads.append(net.head.bias.grad)
        terms.after_step()
        torch.testing.assert_close(term.queue_labels[:6], labels)
    torch.testing.assert_close(totals[0], totals[1])
    torch.testing.assert_close(grads[0], grads[1])


def test_the_frozen_network_runs_once_a_step_without_its_head() -> None:
    terms = started(DRTune(queue_size=8))
    frozen = terms._context.reference._classifier.net
    calls: list[str] = []
    frozen.body.register_forward_hook(lambda *_: calls.append("body"))
    frozen.head.register_forward_hook(lambda *_: calls.append("head"))
    train(terms, 1, 2)
    assert calls == ["body", "body"]


def test_the_first_entries_are_training_examples_in_no_order_of_classes() -> None:
    term = DRTune(queue_size=60)
    inputs, _ = rows(300)
    labels = torch.arange(300) // 100
    frozen = SmallNet(CLASSES, seed=5)
    batches = list(zip(inputs.split(7), labels.split(7), strict=True))
    attach(SmallNet(CLASSES), [term], batches, num_classes=CLASSES, pretrained=frozen)
    torch.testing.assert_close(term.live, term.pretrained)
    with torch.no_grad():
        found = torch.cdist(term.pretrained, frozen.body(inputs)).argmin(dim=1)
    assert len(found.unique()) == 60
    assert torch.equal(term.queue_labels, labels[found])
    for half in (term.queue_labels[:30], term.queue_labels[30:]):
        assert bool((half.bincount(minlength=3) >= 4).all())


def test_few_examples_fill_the_queue_again_and_again() -> None:
    term = DRTune(queue_size=8)
    started(term, examples=3)
    assert torch.equal(term.pretrained[:3], term.pretrained[3:6])
    assert torch.equal(term.pretrained[:2], term.pretrained[6:])
    assert len(term.pretrained.unique(dim=0)) == 3


class Ranks:
    """A split that each of several ranks sees a part of; what is gathered comes from all of them."""

    def __init__(self, sizes: list[int], seed: int = 0) -> None:
        self.index = torch.randperm(1000, generator=torch.Generator().manual_seed(1))[: sum(sizes)]
        self.parts = self.index.split(sizes)
        self.seed = seed

    def queue(self) -> Tensor:
        """First column of the features that the first entries get, which is their index."""
        exchanged: list[list[Tensor]] = [[] for _ in self.parts]
        for rank in range(len(self.parts)):
            DRTune(queue_size=20).setup(self.source(rank, lambda tensor, rank=rank: exchanged[rank].append(tensor) or tensor))
        wholes = iter(torch.cat(tensors) for tensors in zip(*exchanged, strict=True))
        term = DRTune(queue_size=20)
        term.setup(self.source(0, lambda tensor: next(wholes)))
        return term.pretrained[:, 0]

    def source(self, rank: int, gather: object) -> SimpleNamespace:
        def batches() -> Iterator[Batch]:
            for part in self.parts[rank].split(4):
                yield Batch(part[:, None].float(), part % 3, part)

        return SimpleNamespace(
            batches=batches,
            reference=SimpleNamespace(features=lambda inputs: {"pooled": inputs}),
            comm=SimpleNamespace(rank=rank, size=len(self.parts), gather=gather),
            generator=lambda name: torch.Generator().manual_seed(self.seed),
        )


def test_the_first_entries_do_not_depend_on_the_ranks() -> None:
    one = Ranks([50]).queue()
    assert torch.equal(Ranks([25, 25]).queue(), one)
    assert torch.equal(Ranks([10, 3, 37]).queue(), one)
    assert not torch.equal(Ranks([50], seed=1).queue(), one)


def test_a_rank_without_examples_is_told() -> None:
    with pytest.raises(DataError, match="nothing to fill its queue with"):
        attach(SmallNet(CLASSES), [DRTune()], [], num_classes=CLASSES)
