"""Co-Tuning at work: what it estimates before training, and what it trains."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from holdfast import attach
from holdfast.attach import Attached
from holdfast.errors import ConfigError
from holdfast.regularizers.co_tuning import CoTuning
from holdfast.regularizers.functional import source_relationship_direct, source_relationship_reverse
from holdfast.testing import SmallNet

CLASSES, SOURCES = 3, 7


def rows(labels: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(labels)
    return torch.randn(len(labels), 6, generator=generator) + chosen[:, None], chosen


TRAIN, VAL = rows([0, 1, 2] * 8), rows([0, 1, 2] * 4, seed=1)
PRETRAINED = SmallNet(SOURCES, seed=4)


def started(term: CoTuning, **options: object) -> Attached:
    net = SmallNet(CLASSES, seed=4)
    return attach(net, [term], **{"batches": [TRAIN], "num_classes": CLASSES, "pretrained": PRETRAINED, **options})


def source_probs(inputs: Tensor, calibration: float = 1.0) -> Tensor:
    with torch.no_grad():
        return (calibration * PRETRAINED(inputs).double()).softmax(dim=1)


def test_reverse_comes_from_the_source_probabilities_of_both_splits() -> None:
    term = CoTuning(calibration=0.7)
    started(term, val=[VAL])
    expected = source_relationship_reverse(source_probs(TRAIN[0], 0.7), TRAIN[1], source_probs(VAL[0], 0.7), VAL[1], CLASSES)
    torch.testing.assert_close(term.relationship, expected.relationship.float())


def test_direct_takes_validation_examples_in() -> None:
    term = CoTuning(relationship="direct", calibration=0.7)
    started(term, val=[VAL])
    probs, labels = torch.cat([source_probs(TRAIN[0], 0.7), source_probs(VAL[0], 0.7)]), torch.cat([TRAIN[1], VAL[1]])
    torch.testing.assert_close(term.relationship, source_relationship_direct(probs, labels, CLASSES).float())


@pytest.mark.parametrize("val", [None, [rows([], seed=1)]], ids=["no split", "an empty one"])
def test_without_validation_it_is_direct_and_says_so(val: object, caplog: pytest.LogCaptureFixture) -> None:
    term = CoTuning()
    with caplog.at_level(logging.WARNING, "holdfast"):
        started(term, val=val)
    assert "the direct one is used. Give --val-fraction" in caplog.text
    torch.testing.assert_close(term.relationship, source_relationship_direct(source_probs(TRAIN[0]), TRAIN[1], CLASSES).float())


def test_direct_without_validation_needs_no_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"):
        started(CoTuning(relationship="direct"))
    assert not caplog.text


def test_batches_may_be_cut_anywhere() -> None:
    whole, parts = CoTuning(), CoTuning()
    started(whole, val=[VAL])
    cut = [list(zip(inputs.split(5), labels.split(5), strict=True)) for inputs, labels in (TRAIN, VAL)]
    started(parts, batches=cut[0], val=cut[1])
    torch.testing.assert_close(whole.relationship, parts.relationship)


def test_a_class_absent_from_train_gets_a_finite_row() -> None:
    term = CoTuning()
    started(term, batches=[rows([0, 2] * 8)], val=[VAL])
    torch.testing.assert_close(term.relationship.sum(dim=1), torch.ones(CLASSES))
    everything = source_probs(torch.cat([rows([0, 2] * 8)[0], VAL[0]])).mean(dim=0)
    torch.testing.assert_close(term.relationship[1], everything.float())


def test_the_source_head_is_trained_and_the_pretrained_one_stays() -> None:
    term = CoTuning()
    before = PRETRAINED.head.weight.detach().clone()
    terms = started(term, val=[VAL])
    assert [name for name, _ in term.named_parameters()] == ["source_weight", "source_bias"]
    assert torch.equal(term.source_weight, before)
    optimizer = torch.optim.SGD(terms.objective.parameters(), lr=0.1)
    terms.loss(*TRAIN).backward()
    assert term.source_bias.grad is not None
    optimizer.step()
    assert not torch.equal(term.source_weight, before)
    assert torch.equal(PRETRAINED.head.weight, before)


def test_a_source_head_without_bias_works() -> None:
    pretrained = SmallNet(SOURCES)
    pretrained.head = torch.nn.Linear(5, SOURCES, bias=False)
    term = CoTuning()
    terms = started(term, pretrained=pretrained, val=[VAL])
    assert term.source_bias is None
    fresh = CoTuning()
    fresh.load_state_dict(term.state_dict())
    assert fresh.source_bias is None
    assert bool(terms.loss(*TRAIN).isfinite())


def test_attach_asks_for_the_pretrained_network() -> None:
    with pytest.raises(ConfigError, match="'co-tuning' needs the classification head of the pretraining; pass attach"):
        attach(SmallNet(CLASSES), "co-tuning", [TRAIN], num_classes=CLASSES)
