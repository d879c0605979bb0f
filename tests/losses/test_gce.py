from __future__ import annotations

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started, step, term_of

from holdfast.errors import ConfigError
from holdfast.losses.functional import generalized_cross_entropy

TRUNCATED = {"name": "gce", "truncate": 0.34, "prune_start": 1}


def single(terms, **options) -> torch.Tensor:
    inputs, labels = examples()
    return generalized_cross_entropy(logits_of(terms, inputs), labels, reduction="none", **options)


def test_loss_is_the_mean_over_the_batch_and_needs_no_index() -> None:
    inputs, labels = examples()
    terms = started({"name": "gce", "q": 0.5})
    assert float(terms.loss(inputs, labels).detach()) == pytest.approx(float(single(terms, q=0.5).mean()), rel=1e-12)
    assert terms.metrics() == {}


def test_examples_are_judged_in_one_epoch_and_left_out_in_the_next() -> None:
    inputs, labels = examples()
    terms = started(TRUNCATED)
    probs = logits_of(terms, inputs).softmax(1)[torch.arange(16), labels]
    fits = probs > 0.34
    assert 0 < int(fits.sum()) < 16
    for half in torch.arange(16).split(8):
        inside = single(terms)[half]
        assert step(terms, half, lr=0.0) == pytest.approx(float(inside.mean()), rel=1e-12)
    assert torch.equal(term_of(terms).kept, fits)
    assert terms.metrics() == {"gce/kept": pytest.approx(float(fits.double().mean()))}
    terms.start_epoch(1)
    left_out = (1 - 0.34**0.7) / 0.7
    expected = torch.where(fits, single(terms), left_out).mean()
    assert step(terms, torch.arange(16), lr=0.0) == pytest.approx(float(expected), rel=1e-12)


def test_an_example_that_fits_again_comes_back() -> None:
    inputs, labels = examples()
    terms = started({**TRUNCATED, "prune_start": 0})
    term_of(terms).kept.fill_(False)
    step(terms, torch.arange(16), lr=0.0)
    assert torch.equal(term_of(terms).kept, logits_of(terms, inputs).softmax(1)[torch.arange(16), labels] > 0.34)


def test_verdicts_hold_until_the_next_judgement_is_due() -> None:
    terms = started({**TRUNCATED, "prune_start": 1, "prune_every": 2})
    judged = []
    for epoch in range(5):
        terms.start_epoch(epoch)
        term_of(terms).kept.fill_(False)
        step(terms, torch.arange(16), lr=0.0)
        judged.append(bool(term_of(terms).kept.any()))
    assert judged == [True, False, True, False, True]


def test_truncation_asks_for_an_index() -> None:
    inputs, labels = examples()
    with pytest.raises(ConfigError, match=r"method 'gce' keeps state for each example; pass terms.loss\(inputs, labels, index\)"):
        started(TRUNCATED).loss(inputs, labels)
