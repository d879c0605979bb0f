from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.losses.plain_loop import examples, logits_of, started, step, term_of

from holdfast.errors import ConfigError
from holdfast.losses.functional import cross_entropy, self_adaptive_loss, self_adaptive_targets


def test_two_steps_follow_the_formulas_from_one_hot_labels() -> None:
    inputs, labels = examples()
    terms = started({"name": "sat", "momentum": 0.8, "start_epoch": 0})
    targets = F.one_hot(labels, 3).double()
    for index in (torch.tensor([3, 0, 5]), torch.tensor([5, 9, 3, 1])):
        logits = logits_of(terms, inputs[index])
        targets[index] = self_adaptive_targets(targets[index], logits, momentum=0.8)
        assert step(terms, index) == pytest.approx(float(self_adaptive_loss(logits, targets[index])), rel=1e-10)
        torch.testing.assert_close(term_of(terms).targets[index], targets[index], rtol=1e-12, atol=1e-14)


def test_before_the_start_it_is_cross_entropy_without_state() -> None:
    inputs, labels = examples()
    terms = started({"name": "sat", "start_epoch": 1})
    expected = cross_entropy(logits_of(terms, inputs), labels).mean()
    assert step(terms, torch.arange(16)) == pytest.approx(float(expected), rel=1e-12)
    assert not bool(term_of(terms).targets.any())
    terms.start_epoch(1)
    step(terms, torch.arange(16))
    torch.testing.assert_close(term_of(terms).targets.sum(1), torch.ones(16, dtype=torch.float64), rtol=1e-12, atol=0)


def test_weights_of_examples_are_refused() -> None:
    inputs, labels = examples()
    with pytest.raises(ConfigError, match="'sat' takes no weights"):
        started("sat").loss(inputs, labels, torch.arange(16), weights=torch.ones(16))
