"""AdaRand's behaviour over steps, beyond what the reference files exercise."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from holdfast import attach
from holdfast.attach import Attached
from holdfast.regularizers.priors import ClassPrior
from holdfast.testing import SmallNet

CLASSES, WIDTH = 4, 5


def data(seed: int = 0, labels: list[int] | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(labels) if labels is not None else torch.randint(CLASSES, (8,), generator=generator)
    return torch.randn(len(chosen), 6, generator=generator), chosen


def started(labels: list[int] | None = None, **options: object) -> Attached:
    return attach(SmallNet(CLASSES), [{"name": "adarand", **options}], [data(9, labels)], num_classes=CLASSES, total_steps=10)


def term_of(terms: Attached):
    return terms.objective.configured[-1].term


def step(terms: Attached, seed: int = 1, labels: list[int] | None = None) -> None:
    terms.loss(*data(seed, labels))
    terms.after_step()


def test_a_prior_that_does_not_learn_is_randreg_cp() -> None:
    frozen = started(prior_lr=0.0)
    fixed = attach(SmallNet(CLASSES), "randreg-cp", [data(9)], num_classes=CLASSES)
    before = term_of(frozen).mean.clone()
    step(frozen)
    assert torch.equal(term_of(frozen).mean, before)
    assert torch.equal(term_of(fixed).mean, before)
    assert torch.equal(term_of(fixed).std, term_of(frozen).std)


def test_alpha_one_keeps_the_running_means_and_alpha_zero_takes_the_last_batch() -> None:
    kept, followed = started(alpha=1.0), started(alpha=0.0)
    start = term_of(kept).running_mean.clone()
    step(kept)
    assert torch.equal(term_of(kept).running_mean, start)
    inputs, _ = data(1, [0, 0, 2])
    features = followed.objective.model(inputs).features["pooled"].detach()
    step(followed, 1, [0, 0, 2])
    running = term_of(followed).running_mean
    torch.testing.assert_close(running[0], features[:2].mean(0))
    torch.testing.assert_close(running[2], features[2])
    assert torch.equal(running[1], start[1])


def test_standard_deviations_never_move() -> None:
    terms = started()
    before = term_of(terms).std.clone()
    for seed in range(5):
        step(terms, seed)
    assert torch.equal(term_of(terms).std, before)


def test_a_class_without_examples_becomes_active_when_it_turns_up() -> None:
    terms = started([0, 1, 2, 0, 1, 2])
    term = term_of(terms)
    assert term.active.tolist() == [True, True, True, False]
    pooled = term.mean[3].clone()
    step(terms, 1, [0, 1])
    assert not term.active[3]
    assert torch.equal(term.mean[3], pooled)
    inputs, _ = data(2, [3, 0])
    features = terms.objective.model(inputs).features["pooled"].detach()
    step(terms, 2, [3, 0])
    assert term.active[3]
    torch.testing.assert_close(term.running_mean[3], 0.5 * pooled + 0.5 * features[0])
    assert not torch.equal(term.mean[3], pooled)


def test_one_active_class_is_pulled_to_its_running_mean_only() -> None:
    terms = started([1, 1, 1])
    step(terms, 1, [1, 1])
    assert terms.metrics()["adarand/inter"] == 0
    assert torch.isfinite(term_of(terms).mean).all()


def test_zero_means_stay_zero_and_poison_nothing() -> None:
    terms = started()
    term = term_of(terms)
    mean = term.mean.clone()
    mean[2] = 0
    term.set_prior(ClassPrior(mean, term.std, term.active))
    for seed in range(3):
        step(terms, seed)
    assert not term.mean[2].any()
    assert not term.exp_avg_sq[2].any()


def test_references_are_drawn_afresh_for_each_step_and_are_the_same_after_resuming() -> None:
    batch = data(1)
    first, second = started(), started()
    values = []
    for _ in range(2):
        first.loss(*batch)
        values.append(first.values["adarand"])
        first.discard_step()
    assert values[0] == values[1]  # the same step draws the same
    first.loss(*batch)
    first.after_step()
    first.loss(*batch)
    assert first.values["adarand"] != values[0]
    second.loss(*batch)
    second.after_step()
    second.load_state_dict(second.state_dict())
    second.loss(*batch)
    assert second.values["adarand"] == first.values["adarand"]


def test_unknown_length_of_training_is_said_and_keeps_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        terms = attach(SmallNet(CLASSES), "adarand", [data(9)], num_classes=CLASSES)
    assert "total_steps" in caplog.text
    constant = started(prior_schedule="constant")
    for seed in range(3):
        step(terms, seed)
        step(constant, seed)
    assert torch.equal(term_of(terms).mean, term_of(constant).mean)


def test_the_prior_learns_under_cosine_at_a_falling_rate() -> None:
    falling, constant = started(), started(prior_schedule="constant")
    for seed in range(8):
        step(falling, seed)
        step(constant, seed)
    start = term_of(started()).mean
    assert (term_of(falling).mean - start).norm() < (term_of(constant).mean - start).norm()
