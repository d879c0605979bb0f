"""Experiments whose truth is known, repeated 2000 times: how often a difference is claimed, and how often an interval covers it.

Everything goes through :func:`paired_rows`, which a comparison calls. A share found in R repeats may miss the true one by 3 binomial
standard errors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from holdfast.compare.pairs import family, paired_rows
from holdfast.compare.statistics import ALPHA

pytestmark = pytest.mark.slow

REPEATS = 2000
SEEDS = [3, 5, 10]
MARGIN = 3 * math.sqrt(ALPHA * (1 - ALPHA) / REPEATS)

SPREAD_OF_SEEDS, SPREAD_OF_RUNS = 0.02, 0.01
"""What the seed does to all methods alike, and what it does to each for itself, as standard deviations of accuracy."""


def accuracies(generator, effects, seeds):
    """Accuracies (repeats, methods, seeds): a common part of each seed, an effect of each method, and noise."""
    common = generator.normal(0.8, SPREAD_OF_SEEDS, size=(REPEATS, 1, seeds))
    return common + np.reshape(effects, (1, -1, 1)) + generator.normal(0, SPREAD_OF_RUNS, size=(REPEATS, len(effects), seeds))


def on_test_examples(generator, shares, examples):
    """Accuracies as they are measured: so many of the test examples right."""
    return generator.binomial(examples, np.clip(shares, 0, 1)) / examples


def pairs_of(table, *, every_pair=False):
    """The pairs of an experiment (methods, seeds), the first method being the baseline."""
    names = [f"method-{place}" for place in range(len(table))]
    scores = {name: {(0, seed): float(value) for seed, value in enumerate(line)} for name, line in zip(names, table, strict=True)}
    return paired_rows(0, scores, family(names, names[0], every_pair=every_pair))


def share_claimed(tables, **options):
    """In which share of the experiments at least one pair is called better or worse."""
    return np.mean([any(row.verdict != "no difference shown" for row in pairs_of(table, **options)) for table in tables])


@pytest.mark.parametrize("seeds", SEEDS)
def test_equal_methods_are_told_apart_in_five_percent_of_experiments(seeds):
    claimed = share_claimed(accuracies(np.random.default_rng(seeds), [0.0, 0.0], seeds))
    assert ALPHA - MARGIN <= claimed <= ALPHA + MARGIN


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("examples", [100, 2000])
def test_equal_methods_measured_on_test_examples_are_told_apart_in_five_percent_at_most(seeds, examples):
    generator = np.random.default_rng(100 + seeds)
    measured = on_test_examples(generator, accuracies(generator, [0.0, 0.0], seeds), examples)
    assert share_claimed(measured) <= ALPHA + MARGIN


@pytest.mark.parametrize("every_pair", [False, True], ids=["baseline", "every-pair"])
@pytest.mark.parametrize("seeds", SEEDS)
def test_any_claim_among_five_equal_methods_is_made_in_five_percent_at_most(seeds, every_pair):
    claimed = share_claimed(accuracies(np.random.default_rng(200 + seeds), [0.0] * 5, seeds), every_pair=every_pair)
    assert claimed <= ALPHA + MARGIN


@pytest.mark.parametrize("seeds", SEEDS)
def test_equal_methods_beside_one_that_differs_are_still_called_different_in_five_percent_at_most(seeds):
    tables = accuracies(np.random.default_rng(300 + seeds), [0.0, 0.2, 0.0, 0.0], seeds)
    wrong = [any(row.verdict != "no difference shown" for row in pairs_of(table) if row.a != "method-1") for table in tables]
    assert np.mean(wrong) <= ALPHA + MARGIN


@pytest.mark.parametrize("effect", [0.0, 0.01, -0.05])
@pytest.mark.parametrize("seeds", SEEDS)
def test_the_interval_covers_a_known_effect_in_95_percent_of_experiments(seeds, effect):
    tables = accuracies(np.random.default_rng(400 + seeds), [0.0, effect], seeds)
    found = [pairs_of(table)[0].ci95 for table in tables]
    covered = np.mean([low <= effect <= high for low, high in found])
    assert 1 - ALPHA - MARGIN <= covered <= 1 - ALPHA + MARGIN


def test_more_seeds_find_an_effect_more_often():
    found = [share_claimed(accuracies(np.random.default_rng(500 + seeds), [0.0, 0.02], seeds)) for seeds in SEEDS]
    assert found[0] < 0.4 < found[1] < 0.9 < found[2]


def test_a_percentile_bootstrap_over_five_seeds_covers_far_less_than_it_says():
    generator = np.random.default_rng(0)
    tables = accuracies(generator, [0.0, 0.01], 5)
    result = stats.bootstrap((tables[:, 1] - tables[:, 0],), np.mean, axis=-1, n_resamples=1000, method="percentile", rng=generator)
    low, high = result.confidence_interval
    covered = np.mean((low <= 0.01) & (high >= 0.01))
    assert 0.80 < covered < 0.88


def draws_of_data(generator, data_seeds, seeds, spread):
    """Experiments (repeats, data seeds, seeds) of differences that vary with the data, and their mean over the draws (repeats,)."""
    effects = generator.normal(0, spread, size=(REPEATS, data_seeds, 1))
    return effects + generator.normal(0, SPREAD_OF_RUNS, size=(REPEATS, data_seeds, seeds)), effects.mean(axis=(1, 2))


def crossed(differences):
    """The pair of an experiment (data seeds, seeds)."""
    cells = list(np.ndindex(*differences.shape))
    scores = {"a": dict.fromkeys(cells, 0.8), "b": {cell: 0.8 + float(differences[cell]) for cell in cells}}
    return paired_rows(0, scores, [("b", "a")])[0]


def test_where_data_do_not_matter_cells_of_several_data_seeds_count_fully():
    tables, _ = draws_of_data(np.random.default_rng(1), 3, 5, 0.0)
    claimed = np.mean([crossed(table).verdict != "no difference shown" for table in tables])
    assert ALPHA - MARGIN <= claimed <= ALPHA + MARGIN


def test_where_data_matter_a_verdict_is_about_the_draws_compared_and_the_interval_over_data_seeds_about_others():
    tables, means = draws_of_data(np.random.default_rng(2), 3, 5, SPREAD_OF_RUNS)
    found = [crossed(table) for table in tables]
    about_these = np.mean([not row.ci95[0] <= mean <= row.ci95[1] for row, mean in zip(found, means, strict=True)])
    about_others = np.mean([not row.data_seeds.ci95[0] <= 0 <= row.data_seeds.ci95[1] for row in found])
    assert about_these <= ALPHA + MARGIN
    assert ALPHA - MARGIN <= about_others <= ALPHA + MARGIN
    # Taken for other draws the verdict over cells would be wrong far too often, which is what the note is for.
    claimed = [row for row in found if row.verdict != "no difference shown"]
    assert len(claimed) / REPEATS > 0.15
    assert np.mean([row.for_these_draws for row in claimed]) > 0.7
