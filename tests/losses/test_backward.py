from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started, step, term_of

from holdfast.errors import ConfigError, DataError
from holdfast.labels.transition import inverse, pair, symmetric
from holdfast.losses.backward import BackwardCorrection
from holdfast.losses.functional import backward_correction, cross_entropy
from holdfast.terms import Scope

ALL = torch.arange(16)


def test_loss_is_the_mean_over_the_batch() -> None:
    inputs, labels = examples()
    terms = started({"name": "backward", "transition": "pair:0.3"})
    expected = backward_correction(logits_of(terms, inputs), labels, torch.as_tensor(inverse(pair(3, 0.3))))
    assert step(terms, ALL) == pytest.approx(float(expected), rel=1e-12)


def test_a_matrix_may_come_from_a_file(tmp_path) -> None:
    matrix = np.array([[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.0, 0.1, 0.9]])
    np.save(tmp_path / "F.npy", matrix)
    term = term_of(started({"name": "backward", "transition": str(tmp_path / "F.npy")}))
    np.testing.assert_allclose(term.inverse.numpy() @ matrix, np.eye(3), atol=1e-12)


def test_options_change_the_inverse() -> None:
    matrix = symmetric(3, 0.3)
    ridge = term_of(started({"name": "backward", "transition": "symmetric:0.3", "ridge": 0.5})).inverse
    np.testing.assert_allclose((matrix.T @ matrix + 0.5 * np.eye(3)) @ ridge.numpy(), matrix.T, atol=1e-12)
    clipped = term_of(started({"name": "backward", "transition": "symmetric:0.3", "clip_inverse": True})).inverse
    np.testing.assert_allclose(clipped.numpy(), np.eye(3), atol=1e-12)


def test_the_correction_starts_when_it_is_told_to() -> None:
    inputs, labels = examples()
    terms = started({"name": "backward", "transition": "pair:0.3", "start_epoch": 1})
    assert step(terms, ALL) == pytest.approx(float(cross_entropy(logits_of(started("plain"), inputs), labels).mean()), rel=1e-12)
    logits = logits_of(terms, inputs)
    terms.start_epoch(1)
    expected = backward_correction(logits, labels, torch.as_tensor(inverse(pair(3, 0.3))))
    assert step(terms, ALL) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("nonneg", "mend"), [("abs", abs), ("relu", lambda value: max(value, 0.0))])
def test_nonneg_acts_on_the_share_of_each_class(nonneg: str, mend) -> None:
    inputs, labels = examples()
    terms = started({"name": "backward", "transition": "pair:0.4", "nonneg": nonneg})
    for _ in range(30):  # until some share is negative
        step(terms, ALL, lr=0.5)
    logs, pseudo = logits_of(terms, inputs).log_softmax(1), torch.as_tensor(inverse(pair(3, 0.4)))[labels]
    shares = [float(-(pseudo[:, k] * logs[:, k]).mean()) for k in range(3)]
    assert min(shares) < 0
    assert step(terms, ALL) == pytest.approx(sum(map(mend, shares)), rel=1e-9)


def test_negative_batches_are_counted_and_said_once(caplog) -> None:
    terms = started({"name": "backward", "transition": "pair:0.45"})
    losses = [step(terms, ALL[:4], lr=1.0) for _ in range(30)]
    expected = sum(loss < 0 for loss in losses)
    assert 0 < expected < 30
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        assert terms.metrics() == {"backward/negative_batches": expected}
        terms.metrics()
    assert [record.message.count("negative in") for record in caplog.records] == [1]


def test_a_skipped_update_is_not_counted() -> None:
    terms = started({"name": "backward", "transition": "pair:0.45"})
    while step(terms, ALL[:4], lr=0.0) >= 0:
        step(terms, ALL[:4], lr=1.0)
    before = terms.metrics()
    inputs, labels = examples()
    assert float(terms.loss(inputs[:4], labels[:4]).detach()) < 0
    terms.discard_step()
    terms.after_step()
    assert terms.metrics() == before


def test_a_floor_holds_each_example() -> None:
    inputs, labels = examples()
    terms = started({"name": "backward", "transition": "pair:0.4", "clamp_min": 0})
    with torch.no_grad():
        terms.objective.model.net.head.weight.mul_(20)
    inverted = torch.as_tensor(inverse(pair(3, 0.4)))
    single = backward_correction(logits_of(terms, inputs), labels, inverted, reduction="none")
    assert bool((single < 0).any())
    assert step(terms, ALL) == pytest.approx(float(single.clamp(min=0).mean()), rel=1e-12)


def test_only_nonneg_looks_at_the_whole_batch() -> None:
    assert BackwardCorrection().SCOPE is Scope.EXAMPLE
    assert BackwardCorrection(nonneg="abs").SCOPE is Scope.BATCH


@pytest.mark.parametrize("name", ["backward", "forward"])
def test_a_missing_matrix_is_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=f"attach: method '{name}': the transition matrix of the labels is missing; give --method"):
        started(name)


@pytest.mark.parametrize("name", ["backward", "forward"])
def test_a_hopeless_matrix_is_refused_unless_forced(name: str, caplog) -> None:
    with pytest.raises(DataError, match=r"the matrix is singular.*force=true"):
        started({"name": name, "transition": "symmetric:0.6666666666666666"})
    with pytest.raises(DataError, match=r"rho is 53, .*force=true"):
        started({"name": name, "transition": "symmetric:0.65"})
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        assert step(started({"name": name, "transition": "symmetric:0.65", "force": True}), ALL) != 0
    assert "used all the same, as asked" in caplog.text


def test_a_floor_for_examples_and_one_for_classes_are_not_both_taken() -> None:
    with pytest.raises(ConfigError, match="clamp_min acts on examples and nonneg on classes"):
        started({"name": "backward", "transition": "pair:0.3", "clamp_min": 0, "nonneg": "abs"})
