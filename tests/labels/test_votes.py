"""Votes: statistics, majority, and the label models on top of them."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from scipy.special import softmax

from holdfast import labels
from holdfast.errors import ConfigError, DataError, ShapeError

VOTES = np.array([[0, 0, 1, -1], [1, -1, -1, -1], [2, 2, 2, 2], [-1, -1, -1, -1], [0, 1, -1, 2], [1, 1, 0, 0]])
TRUTH = np.array([0, 1, 2, 0, 2, -1])


def crowd(rng, items=400, voters=5, classes=3, coverage=0.8, skill=(0.9, 0.8, 0.7, 0.6, 0.4)):
    """True classes, votes with evenly spread errors, and the accuracies."""
    true = rng.integers(0, classes, items)
    votes = np.full((items, voters), -1)
    for j in range(voters):
        wrong = (true + rng.integers(1, classes, items)) % classes
        said = np.where(rng.random(items) < skill[j], true, wrong)
        votes[:, j] = np.where(rng.random(items) < coverage, said, -1)
    return true, votes


def test_statistics_by_loops():
    found = labels.vote_statistics(VOTES, 3, true_labels=TRUTH)
    for j in range(4):
        given = [i for i in range(6) if VOTES[i, j] >= 0]
        others = {i: [VOTES[i, k] for k in range(4) if k != j and VOTES[i, k] >= 0] for i in given}
        assert found.coverage[j] == len(given) / 6
        assert found.overlap[j] == sum(bool(others[i]) for i in given) / 6
        assert found.conflict[j] == sum(any(v != VOTES[i, j] for v in others[i]) for i in given) / 6
        assert found.polarity[j] == tuple(sorted({VOTES[i, j] for i in given}))
        judged = [i for i in given if TRUTH[i] >= 0]
        assert found.judged[j] == len(judged)
        assert found.accuracy[j] == pytest.approx(np.mean([VOTES[i, j] == TRUTH[i] for i in judged]))


def test_accuracy_of_a_voter_that_is_never_judged_is_unknown():
    found = labels.vote_statistics([[0, -1], [1, -1]], 2, true_labels=[0, 1])
    assert found.accuracy[0] == 1
    assert np.isnan(found.accuracy[1])


@pytest.mark.parametrize(("ties", "expected"), [("abstain", -1), ("lowest", 0), ("prior", 1)])
def test_ties_follow_the_rule(ties, expected):
    found = labels.majority_vote(VOTES, 3, ties=ties, prior=[0.2, 0.5, 0.3] if ties == "prior" else None)
    assert found.tolist() == [0, 1, 2, -1, expected, expected]


def test_random_ties_are_even_seeded_and_among_the_tied():
    votes = np.tile([[0, 2]], (4000, 1))
    found = labels.majority_vote(votes, 3, ties="random", seed=1)
    assert set(found.tolist()) == {0, 2}
    assert (found == 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(found, labels.majority_vote(votes, 3, ties="random", seed=1))
    assert not np.array_equal(found, labels.majority_vote(votes, 3, ties="random", seed=2))


def test_weights_multiply_votes():
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    expected = [sum(weights[j] for j in range(4) if VOTES[4, j] == k) / 3 for k in range(3)]
    np.testing.assert_allclose(labels.majority_probabilities(VOTES, 3, weights=weights)[4], expected)
    assert labels.majority_vote(VOTES, 3, weights=weights)[5] == 1


def test_accuracy_weights_make_a_naive_bayes_vote():
    votes = np.array([[0, 1]] * 8)
    truth = np.array([0] * 6 + [1, 2])
    a, b = (6 + 2 / 3) / 10, (1 + 2 / 3) / 10
    np.testing.assert_allclose(labels.accuracy_weights(votes, truth, 3), [np.log(2 * a / (1 - a)), max(np.log(2 * b / (1 - b)), 0)])


def test_dawid_skene_by_loops():
    rng = np.random.default_rng(0)
    _, votes = crowd(rng, items=30)
    probs = labels.majority_probabilities(votes, 3)
    rows = [i for i in range(30) if (votes[i] >= 0).any()]
    for _ in range(4):
        prior = [np.mean([probs[i, t] for i in rows]) for t in range(3)]
        confusion = np.full((5, 3, 3), 1e-10)
        for j, t in itertools.product(range(5), range(3)):
            for i in rows:
                if votes[i, j] >= 0:
                    confusion[j, t, votes[i, j]] += probs[i, t]
            confusion[j, t] /= confusion[j, t].sum()
        for i in rows:
            joint = [prior[t] * np.prod([confusion[j, t, votes[i, j]] for j in range(5) if votes[i, j] >= 0]) for t in range(3)]
            probs[i] = np.array(joint) / sum(joint)
    found = labels.dawid_skene(votes, 3, iterations=4, tol=0)
    np.testing.assert_allclose(found.probs[rows], probs[rows], atol=1e-7)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-7)


@pytest.mark.filterwarnings("ignore:The (inplace|copy) keyword")  # of pandas, within crowd-kit
def test_dawid_skene_agrees_with_crowd_kit():
    crowdkit = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed")
    pandas = pytest.importorskip("pandas")
    _, votes = crowd(np.random.default_rng(1), items=120)
    rows, voters = np.nonzero(votes >= 0)
    table = pandas.DataFrame({"task": rows, "worker": voters, "label": votes[rows, voters]})
    theirs = crowdkit.DawidSkene(n_iter=7, tol=0).fit_predict_proba(table)
    ours = labels.dawid_skene(votes, 3, iterations=7, tol=0)
    np.testing.assert_allclose(ours.probs[theirs.index], theirs[[0, 1, 2]].to_numpy(), atol=1e-9)


def test_dawid_skene_beats_the_majority_where_it_is_made_for():
    true, votes = crowd(np.random.default_rng(2), items=2000, skill=(0.95, 0.4, 0.4, 0.4, 0.4))
    voted = (votes >= 0).any(axis=1)
    model = (labels.dawid_skene(votes, 3).probs.argmax(axis=1) == true)[voted].mean()
    majority = (labels.majority_vote(votes, 3, ties="random") == true)[voted].mean()
    assert model > majority + 0.1


def test_one_coin_voters_have_one_accuracy():
    true, votes = crowd(np.random.default_rng(3), items=3000)
    found = labels.dawid_skene(votes, 3, one_coin=True)
    for j in range(5):
        diagonal = found.confusion[j].diagonal()
        assert np.ptp(diagonal) < 1e-12
        assert diagonal[0] == pytest.approx((votes[:, j] == true)[votes[:, j] >= 0].mean(), abs=0.05)


def test_known_labels_stay_and_help():
    true, votes = crowd(np.random.default_rng(4), items=300, skill=(0.6, 0.55, 0.5, 0.5, 0.45))
    known = np.where(np.arange(300) < 100, true, -1)
    found = labels.dawid_skene(votes, 3, known=known, smoothing=0.1)
    assert np.array_equal(found.probs[:100], np.eye(3)[true[:100]])
    without = labels.dawid_skene(votes, 3, smoothing=0.1)
    assert (found.probs.argmax(1) == true)[100:].mean() >= (without.probs.argmax(1) == true)[100:].mean()


def test_modelled_abstentions_tell_rules_apart():
    rng = np.random.default_rng(5)
    true = rng.integers(0, 2, 2000)
    # Each rule knows one class: it fires on most of its own examples and on some others.
    fires = rng.random((2000, 6)) < np.where(np.arange(6) % 2 == true[:, None], 0.6, 0.15)
    votes = np.where(fires, np.arange(6) % 2, -1)
    voted = fires.any(axis=1)
    modelled = labels.dawid_skene(votes, 2, abstain="model")
    assert modelled.confusion.shape == (6, 2, 3)
    assert (modelled.probs.argmax(1) == true)[voted].mean() > (labels.majority_vote(votes, 2) == true)[voted].mean()


def test_dawid_skene_warns_of_rules_and_of_few_votes(caplog):
    with caplog.at_level(logging.WARNING, "holdfast"):
        labels.dawid_skene([[0, -1], [0, 1], [-1, 1]], 2, iterations=2)
    assert "2 of 2 voters only ever vote for one class" in caplog.text
    assert "2 of 2 voters have fewer than 5 votes" in caplog.text


def test_adversarial_labels_are_the_possible_truth_of_largest_entropy():
    votes = np.array([[0, 0], [0, 1], [1, -1], [0, 0], [1, 1], [-1, 2]])
    bounds = np.array([[0.7, 0.8], [0.5, 0.6]])
    found = labels.adversarial_labels(votes, 3, bounds)
    accuracy = [np.mean([found.probs[i, votes[i, j]] for i in range(6) if votes[i, j] >= 0]) for j in range(2)]
    for j in range(2):
        assert bounds[j, 0] - 1e-5 <= accuracy[j] <= bounds[j, 1] + 1e-5
    entropy = -(found.probs * np.log(found.probs)).sum(axis=1).mean()
    assert found.risk == pytest.approx(entropy, abs=1e-5)  # no gap between the two sides of the game
    scores = np.zeros((6, 3))
    for i, j in itertools.product(range(6), range(2)):
        if votes[i, j] >= 0:
            scores[i, votes[i, j]] += found.weights[j]
    np.testing.assert_allclose(found.probs, softmax(scores, axis=1), atol=1e-9)
    rng = np.random.default_rng(0)
    possible = 0
    for _ in range(3000):  # no possible truth is worse for these labels than they promise
        y = rng.dirichlet(np.ones(3), 6) * 0.5 + 0.5 * np.eye(3)[[0, 0, 1, 0, 1, 2]]
        reached = [np.mean([y[i, votes[i, j]] for i in range(6) if votes[i, j] >= 0]) for j in range(2)]
        if all(low <= value <= high for value, (low, high) in zip(reached, bounds, strict=True)):
            possible += 1
            assert -(y * np.log(found.probs)).sum(axis=1).mean() <= found.risk + 1e-5
    assert possible > 20


def test_a_voter_that_is_mostly_wrong_counts_against_its_class():
    found = labels.adversarial_labels([[0], [0], [1]], 2, [[0.0, 0.1]])
    np.testing.assert_allclose(found.probs, [[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]], atol=1e-5)
    assert found.weights[0] == pytest.approx(np.log(1 / 9), abs=1e-4)


def test_the_linear_program_solves_its_game():
    votes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    bounds = np.array([[0.9, 0.9], [0.6, 0.6]])
    found = labels.adversarial_labels(votes, 2, bounds, loss="zero-one")
    assert found.probs.argmax(axis=1).tolist() == [0, 0, 1, 1]  # the better voter decides
    assert found.risk == pytest.approx(0.1, abs=1e-7)


def test_a_copy_of_a_voter_changes_nothing():
    _, votes = crowd(np.random.default_rng(6), items=80, voters=3, coverage=1.0)
    bounds = np.array([[0.8, 0.9], [0.6, 0.8], [0.4, 0.6]])
    once = labels.adversarial_labels(votes, 3, bounds)
    twice = labels.adversarial_labels(votes[:, [0, 1, 2, 2]], 3, bounds[[0, 1, 2, 2]])
    np.testing.assert_allclose(once.probs, twice.probs, atol=1e-4)


def test_bounds_are_wilson_intervals_and_open_where_nothing_is_known():
    votes = np.array([[0, -1]] * 10)
    low, high = labels.accuracy_bounds(votes, [0] * 8 + [1] * 2, 2, confidence=0.95)[0]
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert labels.accuracy_bounds(votes, [0] * 10, 2)[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: labels.vote_counts([[0, 3]], 3), DataError, "voter 1 gives item 0 the class 3"),
        (lambda: labels.vote_counts([[0, -2]], 3), DataError, "or -1 for no vote"),
        (lambda: labels.vote_counts([0, 1], 3), ShapeError, r"must be integers \(N, M\)"),
        (lambda: labels.vote_counts([[0, 1]], 2, weights=[1.0]), ShapeError, r"weights must be \(2,\)"),
        (lambda: labels.majority_vote([[0]], 2, ties="lowst"), ConfigError, "Did you mean 'lowest'"),
        (lambda: labels.dawid_skene([[-1, -1]], 2), DataError, "there is no vote"),
        (lambda: labels.dawid_skene([[0]], 2, iterations=0), ConfigError, "at least 1 iteration"),
        (lambda: labels.dawid_skene([[0]], 2, abstain="no"), ConfigError, "ignore or model"),
        (lambda: labels.dawid_skene([[0]], 2, known=[0, 1]), ShapeError, "known must be"),
        (lambda: labels.adversarial_labels([[0, 0]], 2, [[1, 1], [0, 0]]), DataError, r"widen each of the bounds by 0\.500"),
        (lambda: labels.adversarial_labels([[0]], 2, [[0.9, 0.1]]), ShapeError, "bounds must be"),
        (lambda: labels.accuracy_bounds([[0]], [0], 2, confidence=1), ConfigError, "between 0 and 1"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
