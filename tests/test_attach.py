"""A method in a plain training loop: three lines, and the same numbers as in holdfast's own."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import holdfast
from holdfast.attach import Attached, build_terms, prepare_network
from holdfast.catalog import parse_methods
from holdfast.distributed import SingleProcess
from holdfast.errors import ConfigError, DataError, ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.objective import Objective
from holdfast.step import Clock, SourceView, StepContext
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.testing import SmallNet
from holdfast.types import Batch, Step, Update

K, STEPS, BATCH = 3, 6, 8

METHODS: list[Any] = [
    *("plain", "fnp", {"name": "randreg", "prior": "normal"}, "randreg", "randreg-cp", "adarand", "l2-sp", "adarand+l2-sp"),
    {"name": "delta", "layers": "body.0", "attention": True, "attention_epochs": 1},
]


def batches(count: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(BATCH, 6, generator=generator), torch.randint(K, (BATCH,), generator=generator)) for _ in range(count)]


def methods_of(method: Any) -> Any:
    return [method] if isinstance(method, dict) else method


def attached(net: nn.Module, method: Any, **options: Any) -> Attached:
    return holdfast.attach(net, methods_of(method), batches(), num_classes=K, total_steps=STEPS, seed=5, **options)


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def state_of(net: nn.Module, terms: nn.Module) -> dict[str, Tensor]:
    states = {**net.state_dict(), **{f"terms.{name}": value for name, value in terms.state_dict().items()}}
    return {name: value.clone() for name, value in states.items() if isinstance(value, Tensor)}


def assert_same(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert state.keys() == other.keys()
    assert [name for name in state if not torch.equal(state[name], other[name])] == []


def train(net: nn.Module, terms: Attached, optimizer: torch.optim.Optimizer, steps: range, micro: int = 1) -> None:
    """The loop of the documentation."""
    for inputs, labels in batches()[steps.start : steps.stop]:
        for part in range(micro):
            rows = slice(part * BATCH // micro, (part + 1) * BATCH // micro)
            terms.loss(inputs[rows], labels[rows]).backward()
        optimizer.step()
        terms.after_step()
        optimizer.zero_grad()


def train_objective(net: nn.Module, method: Any) -> Objective:
    """The same with the parts that holdfast's own loop is made of."""
    reference, classifier = FrozenReference(copy.deepcopy(net)), Classifier(net)
    terms = build_terms(parse_methods(methods_of(method)))
    layers = prepare_network(classifier, reference, terms)
    objective = Objective(classifier, terms)
    comm, optimizer = SingleProcess(), optimizer_of(net)

    def open_split(split: str) -> Any:
        return (Batch(inputs, labels, torch.full_like(labels, -1)) for inputs, labels in batches())

    for term in objective.terms:
        term.setup(SourceView(reference, K, STEPS, comm, open_split, lambda split: split == "train", seed=5))
    for number, (inputs, labels) in enumerate(batches()):
        context = StepContext(classifier, reference, comm, 5, Clock(number, 0, number, STEPS), reference_layers=layers)
        objective(Batch(inputs, labels, torch.full_like(labels, -1)), context).total.backward()
        optimizer.step()
        objective.after_step(Update(net, comm, number, 0, number, STEPS))
        optimizer.zero_grad()
    return objective


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_three_lines_in_a_plain_loop_are_the_objective(method: Any) -> None:
    net, other = SmallNet(K), SmallNet(K)
    terms = attached(net, method)
    train(net, terms, optimizer_of(net), range(STEPS))
    objective = train_objective(other, method)
    assert_same(state_of(net, terms.objective.terms), state_of(other, objective.terms))


def test_plain_is_cross_entropy() -> None:
    net, other = SmallNet(K), SmallNet(K)
    train(net, attached(net, "plain"), optimizer_of(net), range(STEPS))
    optimizer = optimizer_of(other)
    for inputs, labels in batches():
        nn.functional.cross_entropy(other(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_same(dict(net.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_saved_state_goes_on_exactly(method: Any) -> None:
    net = SmallNet(K)
    terms, optimizer = attached(net, method), optimizer_of(net)
    train(net, terms, optimizer, range(3))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), terms.state_dict()))
    train(net, terms, optimizer, range(3, STEPS))

    resumed = SmallNet(K)
    resumed_terms, resumed_optimizer = attached(resumed, method), optimizer_of(resumed)
    for part, state in zip((resumed, resumed_optimizer, resumed_terms), saved, strict=True):
        part.load_state_dict(state)
    train(resumed, resumed_terms, resumed_optimizer, range(3, STEPS))
    assert_same(state_of(net, terms.objective.terms), state_of(resumed, resumed_terms.objective.terms))
    assert resumed_terms.state_dict()["step"] == STEPS


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_micro_batches_are_one_batch(method: Any) -> None:
    whole, parts = SmallNet(K).double(), SmallNet(K).double()
    whole_terms, parts_terms = attached_double(whole, method), attached_double(parts, method, accumulate=2)
    for net, terms, micro in ((whole, whole_terms, 1), (parts, parts_terms, 2)):
        optimizer = optimizer_of(net)
        for inputs, labels in batches():
            for part in range(micro):
                rows = slice(part * BATCH // micro, (part + 1) * BATCH // micro)
                terms.loss(inputs[rows].double(), labels[rows]).backward()
            optimizer.step()
            terms.after_step()
            optimizer.zero_grad()
    torch.testing.assert_close(state_of(parts, parts_terms.objective.terms), state_of(whole, whole_terms.objective.terms))


def attached_double(net: nn.Module, method: Any, **options: Any) -> Attached:
    source = [(inputs.double(), labels) for inputs, labels in batches()]
    return holdfast.attach(net, methods_of(method), source, num_classes=K, total_steps=STEPS, seed=5, **options)


def test_a_discarded_step_leaves_no_trace() -> None:
    net, other = SmallNet(K), SmallNet(K)
    terms, kept = attached(net, "adarand"), attached(other, "adarand")
    terms.loss(torch.full((BATCH, 6), 100.0), torch.zeros(BATCH, dtype=torch.int64))
    terms.discard_step()
    for each, its_terms in ((net, terms), (other, kept)):
        train(each, its_terms, optimizer_of(each), range(2))
    assert_same(state_of(net, terms.objective.terms), state_of(other, kept.objective.terms))


def test_values_and_metrics_are_plain_numbers_by_name() -> None:
    net = SmallNet(K)
    terms = attached(net, "adarand+l2-sp")
    loss = terms.loss(*batches()[0])
    assert list(terms.values) == ["cross-entropy", "adarand", "l2-sp/backbone", "l2-sp/head"]
    assert all(type(value) is float for value in terms.values.values())
    assert terms.values["l2-sp/backbone"] == 0.0
    terms.after_step()
    assert set(terms.metrics()) == {"adarand/intra", "adarand/inter"}
    assert loss.ndim == 0


class SeesTheClock(Regularizer):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int, int | None]] = []

    def penalty(self, step: Step) -> Tensor:
        self.seen.append((step.step, step.epoch, step.step_in_epoch, step.total_steps))
        return step.logits.square().mean()


def test_terms_see_the_clock() -> None:
    net, term = SmallNet(K), SeesTheClock()
    terms = holdfast.attach(net, term, num_classes=K, total_steps=STEPS)
    for epoch in range(2):
        terms.start_epoch(epoch)
        train(net, terms, optimizer_of(net), range(2))
    assert term.seen == [(0, 0, 0, STEPS), (1, 0, 1, STEPS), (2, 1, 0, STEPS), (3, 1, 1, STEPS)]


def test_a_reference_of_ones_own_is_held_on_to() -> None:
    net, pretrained = SmallNet(K), SmallNet(K, seed=9)
    terms = holdfast.attach(net, "l2-sp", num_classes=K, pretrained=pretrained)
    terms.loss(*batches()[0])
    drift = sum((a - b).square().sum() for a, b in zip(net.body.parameters(), pretrained.body.parameters(), strict=True)) / 2
    assert terms.values["l2-sp/backbone"] == pytest.approx(drift.item(), rel=1e-5)


def test_the_reference_does_not_follow_the_network() -> None:
    net = SmallNet(K)
    terms = attached(net, "l2-sp")
    train(net, terms, optimizer_of(net), range(2))
    terms.loss(*batches()[2])
    assert terms.values["l2-sp/backbone"] > 0


# ------------------------------------------------------------------------------------------------------------------- mistakes


def test_statistics_without_batches_say_what_to_pass() -> None:
    with pytest.raises(DataError, match=r"asks for batches of the train split; pass attach\(model, method, batches, \.\.\.\)"):
        holdfast.attach(SmallNet(K), "adarand", num_classes=K)


def test_batches_that_can_be_read_only_once_are_refused() -> None:
    with pytest.raises(DataError, match="must be iterable more than once; pass a DataLoader or a list instead of a generator"):
        holdfast.attach(SmallNet(K), "adarand", (batch for batch in batches()), num_classes=K)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_forgotten_after_step_is_found(accumulate: int) -> None:
    terms = attached(SmallNet(K), "fnp", accumulate=accumulate)
    for _ in range(accumulate):
        terms.loss(*batches()[0])
    with pytest.raises(ConfigError, match=rf"called more than {accumulate} time\(s\) without terms.after_step\(\); pass .*accumulate=N"):
        terms.loss(*batches()[0])


def test_unknown_methods_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'adarand'"):
        attached(SmallNet(K), "adrand")
    with pytest.raises(ConfigError, match="alfa"):
        attached(SmallNet(K), {"name": "adarand", "alfa": 0.1})


class Joint(Regularizer):
    NEEDS = Needs(layers=("pooled",))
    SCOPE = Scope.BATCH

    def penalty(self, step: Step) -> Tensor:
        return step.features["pooled"].T.mm(step.features["pooled"]).square().mean()


def test_accumulation_of_a_term_of_the_joint_batch_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        holdfast.attach(SmallNet(K), Joint(), num_classes=K, accumulate=4)
    assert "'Joint' depends on the whole batch, but with accumulation it sees 1/4 of it" in caplog.text


def test_an_unknown_length_of_the_run_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        holdfast.attach(SmallNet(K), "adarand", batches(), num_classes=K)
    assert "pass attach(..., total_steps=N)" in caplog.text


def test_a_network_that_goes_on_after_its_head_is_refused() -> None:
    class Scaled(SmallNet):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    with pytest.raises(ModelError, match="not the output of 'head'"):
        holdfast.attach(Scaled(3), "fnp", [(torch.ones(2, 6), torch.tensor([0, 1]))], num_classes=3)
