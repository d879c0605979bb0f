"""Two networks on the same examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from holdfast.averaging.paired import paired_accuracies


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples that both, only the first, only the second and neither get right."""
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_difference_is_that_of_the_accuracies_and_p_counts_the_examples_they_disagree_on():
    found = paired_accuracies(*answers(60, 12, 3, 25))
    assert found.difference == pytest.approx(0.72 - 0.63)
    assert found.p == pytest.approx(2 * binom.cdf(3, 15, 0.5))
    assert found.ci95[0] < 0.09 < found.ci95[1]


def test_exchanged_networks_have_the_opposite_difference_and_equal_ones_none():
    forth, back = paired_accuracies(*answers(5, 7, 2, 1)), paired_accuracies(*answers(5, 2, 7, 1))
    assert (back.difference, back.p) == (-forth.difference, forth.p)
    assert back.ci95 == pytest.approx((-forth.ci95[1], -forth.ci95[0]))
    same = paired_accuracies(*answers(8, 0, 0, 2))
    assert (same.difference, same.p) == (0, 1)
    assert same.ci95[0] == -same.ci95[1] != 0


def test_intervals_of_known_networks_cover_the_difference_in_ninety_five_percent():
    generator = np.random.default_rng(0)
    shares, count, repeats = np.array([0.6, 0.13, 0.07, 0.2]), 150, 4000
    hits = 0
    for counts in generator.multinomial(count, shares, size=repeats):
        low, high = paired_accuracies(*answers(*counts)).ci95
        hits += low <= 0.06 <= high
    assert hits / repeats == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / repeats))


def test_networks_that_are_equally_good_are_called_different_in_five_percent_at_most():
    generator = np.random.default_rng(1)
    found = [paired_accuracies(*answers(*counts)).p < 0.05 for counts in generator.multinomial(120, [0.7, 0.08, 0.08, 0.14], size=2000)]
    assert np.mean(found) <= 0.05
