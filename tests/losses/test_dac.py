from __future__ import annotations

import copy

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started, step, term_of

from holdfast.errors import ConfigError
from holdfast.losses.functional import abstention_loss, abstention_threshold, cross_entropy

DAC = {"name": "dac", "warmup_epochs": 1, "final_alpha": 1.5, "start_divisor": 8.0, "momentum": 0.75}


def test_the_price_rises_from_what_the_warm_up_found_to_the_last_step() -> None:
    inputs, labels = examples()
    terms = started(DAC, outputs=4, total_steps=8)
    saving = None
    for index in torch.arange(16).split(8):
        logits = logits_of(terms, inputs[index])
        now = float(abstention_threshold(logits, labels[index]))
        saving = now if saving is None else 0.75 * saving + 0.25 * now
        assert step(terms, index) == pytest.approx(float(cross_entropy(logits, labels[index]).mean()), rel=1e-12)
    terms.start_epoch(1)
    first = saving / 8
    for number in range(6):  # steps 2 to 7
        alpha = first + (1.5 - first) * number / 5
        logits = logits_of(terms, inputs)
        assert step(terms, torch.arange(16)) == pytest.approx(float(abstention_loss(logits, labels, alpha=alpha)), rel=1e-9)
    assert terms.metrics()["dac/saving"] == pytest.approx(saving)


def test_abstentions_of_an_epoch_are_counted() -> None:
    inputs, _ = examples()
    terms = started(DAC, outputs=4)
    with torch.no_grad():
        terms.objective.model.head.bias[3] = 0.25
    share = (logits_of(terms, inputs).argmax(1) == 3).double()
    assert 0 < float(share.sum()) < 16
    for index in torch.arange(16).split(8):
        step(terms, index, lr=0.0)
    assert terms.metrics()["dac/abstained"] == pytest.approx(float(share.mean()))
    terms.start_epoch(1)
    step(terms, torch.arange(4), lr=0.0)
    assert terms.metrics()["dac/abstained"] == pytest.approx(float(share[:4].mean()))


def test_a_skipped_update_counts_for_nothing() -> None:
    inputs, labels = examples()
    terms = started(DAC, outputs=4)
    step(terms, torch.arange(8))
    before = copy.deepcopy(terms.state_dict()["terms"])
    terms.loss(inputs, labels)
    terms.discard_step()
    terms.after_step()
    after = terms.state_dict()["terms"]
    assert all(torch.equal(before[name], after[name]) for name in ("0.saving", "0.first_step", "0.abstained"))


def test_the_model_must_have_one_output_more_than_classes() -> None:
    with pytest.raises(ConfigError, match=r"method 'dac' needs 1 output\(s\) beyond the 3 classes, but the head 'head' has 3; .* with 4"):
        started(DAC, outputs=3)


def test_the_schedule_must_know_its_end() -> None:
    with pytest.raises(ConfigError, match=r"pass attach\(\.\.\., total_steps=N\)"):
        started(DAC, outputs=4, total_steps=None)


def test_no_one_else_sees_the_further_output() -> None:
    inputs, labels = examples()
    terms = started(DAC, outputs=4)
    seen = []
    terms.module.register_forward_hook(lambda module, given, output: seen.append(output.logits))
    terms.loss(inputs, labels)
    assert torch.equal(seen[0], logits_of(terms, inputs)[:, :3])
    assert term_of(terms).NEEDS.head.extra == 1
