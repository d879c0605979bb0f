from __future__ import annotations

import copy

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started, step, term_of

from holdfast.errors import ConfigError, DataError
from holdfast.losses.functional import cross_entropy, early_learning_regularization, early_learning_targets

METHODS = ["elr", {"name": "sat", "start_epoch": 0}]


def test_two_steps_follow_the_formulas_row_by_row() -> None:
    inputs, labels = examples()
    terms = started({"name": "elr", "momentum": 0.6, "regularization_weight": 2.0})
    targets = torch.zeros(16, 3, dtype=torch.float64)
    for index in (torch.tensor([3, 0, 5]), torch.tensor([5, 9, 3, 1])):
        logits = logits_of(terms, inputs[index])
        targets[index] = early_learning_targets(targets[index], logits, momentum=0.6)
        expected = cross_entropy(logits, labels[index]).mean() + 2 * early_learning_regularization(logits, targets[index])
        assert step(terms, index) == pytest.approx(float(expected), rel=1e-10)
        torch.testing.assert_close(term_of(terms).targets, targets, rtol=1e-12, atol=1e-14)


def test_the_gradient_takes_the_targets_as_constants() -> None:
    inputs, labels = examples()
    terms = started("elr")
    step(terms, torch.arange(16))
    before = term_of(terms).targets.clone()
    net = copy.deepcopy(terms.objective.model.net)
    terms.loss(inputs, labels, torch.arange(16)).backward()
    logits = net(inputs)
    targets = early_learning_targets(before, logits, momentum=0.7)
    (cross_entropy(logits, labels).mean() + 3 * early_learning_regularization(logits, targets)).backward()
    for ours, expected in zip(terms.objective.model.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_forward_pass_alone_changes_no_state(method) -> None:
    inputs, labels = examples()
    terms = started(method)
    terms.loss(inputs, labels, torch.arange(16))
    assert not bool(term_of(terms).targets.any())
    terms.discard_step()
    terms.after_step()
    assert not bool(term_of(terms).targets.any())


@pytest.mark.parametrize("method", METHODS)
def test_state_goes_on_exactly_after_loading(method) -> None:
    through, first = started(method), started(method)
    for terms in (through, first):
        step(terms, torch.arange(8))
    second = started(method)
    second.objective.model.load_state_dict(first.objective.model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for terms in (through, second):
        step(terms, torch.arange(4, 12))
    assert torch.equal(term_of(through).targets, term_of(second).targets)
    assert bool(term_of(second).targets[:12].any(dim=1).all())
    assert not bool(term_of(second).targets[12:].any())


@pytest.mark.parametrize("method", METHODS)
def test_the_index_must_be_given_and_known(method) -> None:
    inputs, labels = examples()
    name = method if isinstance(method, str) else method["name"]
    with pytest.raises(ConfigError, match=rf"method '{name}' keeps state for each example; pass terms.loss\(inputs, labels, index\)"):
        started(method).loss(inputs, labels)
    with pytest.raises(DataError, match="index: 16 is none of the 16 training examples"):
        started(method).loss(inputs, labels, torch.arange(1, 17))


def test_without_training_examples_there_is_no_state_to_size() -> None:
    from holdfast import attach
    from holdfast.testing import SmallNet

    with pytest.raises(DataError, match=r"attach\(model, method, batches"):
        attach(SmallNet(3), "elr", num_classes=3)
