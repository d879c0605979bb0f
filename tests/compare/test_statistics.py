"""The paired t interval, Holm's correction and the verdict, against definitions of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from holdfast.compare.statistics import ALPHA, holm, holm_levels, paired_t, verdict


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_paired_interval_is_that_of_scipys_paired_t_test(n):
    generator = np.random.default_rng(n)
    a, b = generator.normal(0.8, 0.02, size=(2, n))
    reference = stats.ttest_rel(a, b)
    result = paired_t(a - b)
    assert float(result.p) == pytest.approx(reference.pvalue, rel=1e-9)
    assert (float(result.low), float(result.high)) == pytest.approx(tuple(reference.confidence_interval(0.95)), rel=1e-9)


def test_the_interval_is_that_of_a_table_of_t():
    # Mean 2, standard deviation 1, n = 4: half width 3.182446 (t, 3 degrees of freedom, 97.5 %) times 1 / 2.
    root = math.sqrt(3) / 2
    result = paired_t([2 - root, 2 - root, 2 + root, 2 + root])
    assert float(result.std) == pytest.approx(1.0)
    assert float(result.high) == pytest.approx(2 + 3.182446305 / 2, abs=1e-8)


def test_a_level_of_its_own_widens_the_interval():
    values = [0.01, 0.03, 0.02]
    assert paired_t(values, 0.01).low < paired_t(values).low < paired_t(values, 0.2).low


def test_arrays_of_experiments_give_what_each_gives_alone():
    differences = np.random.default_rng(0).normal(size=(4, 3, 5))
    together = paired_t(differences)
    for place in np.ndindex(4, 3):
        alone = paired_t(differences[place])
        assert [float(field[place]) for field in together] == pytest.approx([float(field) for field in alone])


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.1], [0.0, 0.0, 0.0], [0.83 - 0.81, 0.43 - 0.41, 0.02]])
def test_without_spread_there_is_no_interval_and_no_p_value(values):
    result = paired_t(values)
    assert np.isnan([result.low, result.high, result.p]).all()


def test_two_differences_have_the_wide_interval_of_one_degree_of_freedom():
    result = paired_t([0.01, 0.03])
    assert float(result.high - result.mean) == pytest.approx(12.7062047 * 0.01, rel=1e-6)


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the example of statsmodels' and R's documentation, by hand
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_is_the_step_down_worked_by_hand(p, corrected):
    assert holm(p).tolist() == pytest.approx(corrected)


def test_holm_counts_a_test_that_could_not_be_made():
    corrected = holm([0.02, math.nan])
    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])


def naive_holm_rejects(p, alpha):
    """The procedure in the words of the paper: from the smallest on, stop at the first that is not below its level."""
    rejected = set()
    for step, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        if not p[place] < alpha / (len(p) - step):
            break
        rejected.add(place)
    return rejected


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_values_and_levels_reject_what_the_procedure_rejects(p):
    # Products and quotients of floats may differ in the last digit, so values next to a border are no test of the procedure.
    if any(abs(value * count - ALPHA) < 1e-9 for value in p for count in range(1, len(p) + 1)):
        return
    rejected = naive_holm_rejects(p, ALPHA)
    assert {place for place, value in enumerate(holm(p)) if value < ALPHA} == rejected
    assert {place for place, (value, level) in enumerate(zip(p, holm_levels(p), strict=True)) if value < level} == rejected


def test_holm_works_along_the_last_axis():
    p = np.random.default_rng(0).random((6, 4)) / 10
    assert np.array_equal(holm(p), np.stack([holm(line) for line in p]))
    assert np.array_equal(holm_levels(p), np.stack([holm_levels(line) for line in p]))


def test_the_interval_after_holm_excludes_zero_exactly_where_there_is_a_verdict():
    differences = np.random.default_rng(1).normal(0.6, 1, size=(300, 5, 4))
    test = paired_t(differences)
    judged = paired_t(differences, holm_levels(test.p))
    words = verdict(test.mean, holm(test.p))
    assert set(words.ravel()) == {"better", "worse", "no difference shown"}
    assert np.array_equal(words == "better", judged.low > 0)
    assert np.array_equal(words == "worse", judged.high < 0)
    assert (np.sign(test.low) == np.sign(test.high))[words != "no difference shown"].all(), "a verdict, and the plain interval holds 0"


def test_no_p_value_gives_no_verdict():
    assert str(verdict(0.3, math.nan)) == "no difference shown"


def test_a_p_value_on_the_border_gives_no_verdict():
    assert str(verdict(0.3, ALPHA)) == "no difference shown"
