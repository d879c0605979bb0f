"""Mean ranks, Friedman, the critical difference and Wilcoxon, against published tables and counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from holdfast.compare.ranking import critical_difference, friedman_p, ranks, wilcoxon_p


def test_the_highest_accuracy_has_rank_one_and_ties_share():
    assert ranks([[0.7, 0.9, 0.8], [0.5, 0.5, 0.4]]).tolist() == [[3, 1, 2], [1.5, 1.5, 3]]


def test_accuracies_that_differ_by_rounding_share_their_rank():
    assert ranks([[0.1 + 0.2, 0.3]]).tolist() == [[1.5, 1.5]]


# Demšar (2006), table 5 (a): critical values q at 0.05 of the two-tailed Nemenyi test.
@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)])
@pytest.mark.parametrize("blocks", [5, 14])
def test_the_critical_difference_is_that_of_the_published_table(methods, q, blocks):
    assert critical_difference(methods, blocks) == pytest.approx(q * (methods * (methods + 1) / (6 * blocks)) ** 0.5, rel=5e-4)


@pytest.mark.parametrize(("methods", "blocks"), [(1, 5), (3, 1), (3, 0)])
def test_there_is_no_critical_difference_of_one_method_or_one_block(methods, blocks):
    assert critical_difference(methods, blocks) is None


def test_friedmans_test_is_that_of_the_rank_sums():
    scores = np.random.default_rng(0).random((8, 4))
    sums = sum(np.argsort(np.argsort(-line)) + 1.0 for line in scores)
    statistic = 12 / (8 * 4 * 5) * (sums**2).sum() - 3 * 8 * 5
    assert friedman_p(scores) == pytest.approx(stats.chi2.sf(statistic, 3))


def test_friedmans_test_needs_three_methods_and_two_blocks():
    assert friedman_p(np.ones((5, 2))) is None
    assert friedman_p(np.ones((1, 3))) is None


def test_methods_that_never_differ_have_a_friedman_p_of_one():
    assert friedman_p(np.ones((4, 3))) == 1.0


def test_wilcoxon_is_a_count_over_all_signs():
    differences = np.array([0.3, -0.1, 0.45, 0.2, 0.5, 0.62, -0.05])
    size = stats.rankdata(np.abs(differences))
    observed = abs((np.sign(differences) * size).sum())
    sums = [abs(np.dot(signs, size)) for signs in itertools.product([-1, 1], repeat=7)]
    assert wilcoxon_p(differences) == pytest.approx(np.mean([value >= observed - 1e-9 for value in sums]))


def test_wilcoxon_needs_six_datasets():
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5]) is None
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 2**6)


def test_wilcoxon_of_no_difference_at_all_shows_nothing():
    assert wilcoxon_p([0.0, 1e-16, 0.0, 0.0, 0.0, 0.0]) == 1.0


def test_a_dataset_without_a_difference_is_no_win():
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.0]) > wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
