"""Cross-entropy with weights of examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from holdfast import Needs, TaskLoss, attach
from holdfast.attach import Attached
from holdfast.errors import ConfigError
from holdfast.losses.functional import cross_entropy
from holdfast.testing import SmallNet, check_loss
from holdfast.types import Step

K = 3


def examples(count: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(K, (count,), generator=generator), torch.rand(count, generator=generator, dtype=torch.float64)


def attached(method: str | TaskLoss = "plain", **options: int) -> Attached:
    return attach(SmallNet(K).double(), method, num_classes=K, **options)


def test_weighted_cross_entropy_is_a_sum_over_rows_divided_by_their_number() -> None:
    inputs, labels, weights = examples()
    terms = attached()
    logits = terms.objective.model.net(inputs).tolist()
    expected = 0.0
    for row, label, weight in zip(logits, labels.tolist(), weights.tolist(), strict=True):
        expected -= weight * (row[label] - math.log(sum(map(math.exp, row)))) / len(labels)
    assert float(terms.loss(inputs, labels, weights=weights).detach()) == pytest.approx(expected, rel=1e-12)


def test_weights_of_1_are_no_weights() -> None:
    inputs, labels, weights = examples()
    plain, ones = (float(attached().loss(inputs, labels, weights=given).detach()) for given in (None, torch.ones_like(weights)))
    assert plain == ones


def test_weighted_micro_batches_add_up_to_the_weighted_batch() -> None:
    inputs, labels, weights = examples()
    whole, parts = attached(), attached(accumulate=2)
    whole.loss(inputs, labels, weights=weights).backward()
    for rows in (slice(0, 4), slice(4, 8)):
        parts.loss(inputs[rows], labels[rows], weights=weights[rows]).backward()
    for one, other in zip(whole.objective.parameters(), parts.objective.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


class Deaf(TaskLoss):
    """A task loss that knows nothing of weights."""

    def loss(self, step: Step) -> Tensor:
        return cross_entropy(step.logits, step.labels).mean()


class Renormalises(TaskLoss):
    """Divides by the sum of the weights in the batch."""

    NEEDS = Needs(weights=True)

    def loss(self, step: Step) -> Tensor:
        losses = cross_entropy(step.logits, step.labels)
        return losses.mean() if step.weights is None else (step.weights * losses).sum() / step.weights.sum()


class Ignores(Deaf):
    """Says that it uses weights, and does not."""

    NEEDS = Needs(weights=True)


class WeighsTheMean(TaskLoss):
    """Mixes up rows."""

    NEEDS = Needs(weights=True)

    def loss(self, step: Step) -> Tensor:
        mean = cross_entropy(step.logits, step.labels).mean()
        return mean if step.weights is None else mean * step.weights.mean()


def test_a_loss_that_takes_no_weights_refuses_them() -> None:
    inputs, labels, weights = examples()
    terms = attached(Deaf())
    terms.loss(inputs, labels)
    terms.after_step()
    with pytest.raises(ConfigError, match=r"method 'Deaf' takes no weights of examples, but this batch has some; .*NEEDS = Needs\(weights"):
        terms.loss(inputs, labels, weights=weights)


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        (Renormalises(), "Renormalises: twice the weights make"),
        (Ignores(), "Ignores: twice the weights make"),
        (WeighsTheMean(), "WeighsTheMean: a row of weight 0 changes the loss"),
    ],
)
def test_the_contract_finds_a_loss_that_weighs_wrongly(term: TaskLoss, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_loss(term)


def test_the_contract_asks_nothing_about_weights_of_a_loss_that_takes_none() -> None:
    check_loss(Deaf())
