"""Relationships against their definition, and the cases that no reference file holds: absent classes, two classes, perfect separation."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from holdfast.errors import ShapeError
from holdfast.regularizers.functional import co_tuning_loss, source_relationship_direct, source_relationship_reverse

SOURCES = 5


def probabilities(labels: list[int], seed: int = 0, *, sharp: float = 1.0) -> tuple[Tensor, Tensor]:
    """Source probabilities that lean towards one source class for each target class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(labels)
    logits = torch.randn(len(labels), SOURCES, generator=generator, dtype=torch.float64)
    logits[torch.arange(len(labels)), chosen % SOURCES] += sharp
    return logits.softmax(dim=1), chosen


def by_definition(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], strengths: tuple[float, ...]) -> Tensor:
    """The steps of the specification with another solver and a grid for the scale; all classes present."""
    best, found = -1.0, None
    for strength in strengths:
        model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10000)
        model.fit(train[0].numpy(), train[1].numpy())
        accuracy = model.score(val[0].numpy(), val[1].numpy())
        if accuracy > best:
            best, found = accuracy, model
    assert found is not None
    coefficients = torch.as_tensor(found.coef_)
    logits = val[0] @ coefficients.T
    scales = [0.001 * step for step in range(3000)]
    scale = min(scales, key=lambda s: float(torch.nn.functional.cross_entropy(s * logits, val[1])))
    marginal = torch.cat([train[0], val[0]]).mean(dim=0)
    joint = torch.softmax(scale * coefficients, dim=0) * marginal
    return joint / joint.sum(dim=1, keepdim=True)


def test_reverse_is_what_its_steps_say() -> None:
    strengths = (100.0, 3.0, 0.1)
    train, val = probabilities([0, 1, 2] * 20), probabilities([0, 1, 2] * 10, seed=1)
    found = source_relationship_reverse(*train, *val, 3, strengths=strengths)
    torch.testing.assert_close(found.relationship, by_definition(train, val, strengths), rtol=0, atol=1e-3)  # the grid of scales is coarse
    torch.testing.assert_close(found.relationship.sum(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(found.target_given_source.sum(dim=1), torch.ones(SOURCES, dtype=torch.float64))


def test_the_scale_is_the_best_one() -> None:
    train, val = probabilities([0, 1, 2] * 20), probabilities([0, 1, 2] * 10, seed=1)
    found = source_relationship_reverse(*train, *val, 3)

    def loss(scale: float) -> float:
        return float(torch.nn.functional.cross_entropy(scale * (val[0] @ found.coefficients.T), val[1]))

    assert 0 < found.scale < 100
    assert loss(found.scale) < min(loss(found.scale + 1e-3), loss(found.scale - 1e-3))


def test_two_classes_have_a_row_of_coefficients_each() -> None:
    strengths = (100.0, 3.0, 0.1)
    train, val = probabilities([0, 1] * 20), probabilities([0, 1] * 10, seed=1)
    found = source_relationship_reverse(*train, *val, 2, strengths=strengths)
    assert found.coefficients.shape == (2, SOURCES)
    assert found.relationship.shape == (2, SOURCES)
    # scikit-learn fits one row w, the difference of ours: ½‖A‖² is then ¼‖w‖², half its penalty.
    theirs = LogisticRegression(C=2 * found.strength, fit_intercept=False, tol=1e-10, max_iter=10000)
    theirs.fit(train[0].numpy(), train[1].numpy())
    ours = found.coefficients[1] - found.coefficients[0]
    torch.testing.assert_close(ours, torch.as_tensor(theirs.coef_[0]), rtol=0, atol=1e-4)


def test_a_class_absent_from_train_is_the_marginal_and_moves_no_other() -> None:
    train, val = probabilities([0, 2, 3] * 20), probabilities([0, 2, 3] * 10, seed=1)
    beside = probabilities([1] * 4, seed=2)
    both = torch.cat([val[0], beside[0]]), torch.cat([val[1], beside[1]])
    with_absent = source_relationship_reverse(*train, *both, 5)
    packed = torch.tensor([0, -1, 1, 2])
    without = source_relationship_reverse(train[0], packed[train[1]], val[0], packed[val[1]], 3)
    assert with_absent.strength == without.strength
    assert torch.equal(with_absent.accuracies, without.accuracies)
    assert with_absent.scale == without.scale
    torch.testing.assert_close(with_absent.target_given_source[:, [0, 2, 3]], without.target_given_source)
    marginal = torch.cat([train[0], both[0]]).mean(dim=0)
    for absent in (1, 4):
        torch.testing.assert_close(with_absent.relationship[absent], marginal)
        assert not bool(with_absent.target_given_source[:, absent].any())
    joint = without.target_given_source.T * marginal
    torch.testing.assert_close(with_absent.relationship[[0, 2, 3]], joint / joint.sum(dim=1, keepdim=True))


def test_among_equally_good_strengths_the_weakest_regularisation_is_kept() -> None:
    train, val = probabilities([0, 1, 2] * 20, sharp=9.0), probabilities([0, 1, 2] * 10, seed=1, sharp=9.0)
    found = source_relationship_reverse(*train, *val, 3)
    assert found.accuracies.tolist() == [1.0] * 17
    assert found.strength == 1e4


def test_perfect_separation_gives_the_largest_scale_and_no_nan() -> None:
    train, val = probabilities([0, 1, 2] * 20, sharp=30.0), probabilities([0, 1, 2] * 10, seed=1, sharp=30.0)
    found = source_relationship_reverse(*train, *val, 3)
    assert found.scale == 100.0
    assert bool(found.relationship.isfinite().all())
    assert found.relationship.argmax(dim=1).tolist() == [0, 1, 2]


def test_a_class_for_which_no_source_class_speaks_still_has_a_row() -> None:
    # One example among four thousand like it of class 0: with the largest scale its probability underflows at every source class.
    train = probabilities([0] * 4000 + [1, 2, 3, 4] * 10 + [5], sharp=60.0)
    found = source_relationship_reverse(*train, *probabilities([0, 1, 2, 3, 4] * 4, seed=1, sharp=60.0), 6)
    assert found.scale == 100.0
    assert not bool(found.target_given_source[:, 5].any())
    torch.testing.assert_close(found.relationship.sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_validation_without_a_training_class_is_refused() -> None:
    with pytest.raises(ShapeError, match="val_labels must hold a class"):
        source_relationship_reverse(*probabilities([0, 1]), *probabilities([2, 2]), 3)


def test_direct_is_the_mean_of_each_class_and_of_all_where_there_is_none() -> None:
    probs, labels = probabilities([0, 2, 2, 0, 0])
    found = source_relationship_direct(probs, labels, 3)
    torch.testing.assert_close(found[0], (probs[0] + probs[3] + probs[4]) / 3)
    torch.testing.assert_close(found[2], (probs[1] + probs[2]) / 2)
    torch.testing.assert_close(found[1], sum(probs) / 5)


def test_the_loss_with_certain_relations_is_the_cross_entropy_of_the_source_classes() -> None:
    logits = torch.randn(6, SOURCES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, related = torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([4, 0, 2])
    loss = co_tuning_loss(logits, labels, torch.eye(SOURCES, dtype=torch.float64)[related])
    expected = -logits.log_softmax(dim=1)[torch.arange(6), related[labels]].mean()
    torch.testing.assert_close(loss, expected)


def test_no_gradient_flows_into_the_relationship() -> None:
    relationship = torch.full((2, SOURCES), 1 / SOURCES, requires_grad=True)
    logits = torch.zeros(3, SOURCES, requires_grad=True)
    co_tuning_loss(logits, torch.tensor([0, 1, 1]), relationship).backward()
    assert relationship.grad is None
    assert logits.grad is not None


def test_a_relationship_of_other_source_classes_is_refused() -> None:
    with pytest.raises(ShapeError, match="one column for each of the 5 source classes"):
        co_tuning_loss(torch.zeros(2, SOURCES), torch.tensor([0, 1]), torch.zeros(2, SOURCES + 1))
