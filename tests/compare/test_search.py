"""Which trial is compared."""

from __future__ import annotations

from tests.compare.rows import cell

from holdfast.compare.search import best_trial, mean_accuracies

TRIALS = {f"lr={rate}": tuple(cell("plain", seed, trial=f"lr={rate}", tuning=True) for seed in (1000, 1001)) for rate in (1, 2, 3)}


def test_the_trial_with_the_best_mean_over_seeds_is_chosen():
    accuracies = {"lr=1": (0.5, 0.7), "lr=2": (0.9, 0.4), "lr=3": (0.6, 0.625)}
    means = mean_accuracies(TRIALS, lambda cell: accuracies[cell.trial][cell.seed - 1000])
    assert means == {"lr=1": 0.6, "lr=2": 0.65, "lr=3": 0.6125}
    assert best_trial(means) == "lr=2"


def test_of_equal_trials_the_first_is_chosen():
    assert best_trial(mean_accuracies(TRIALS, lambda cell: 0.5)) == "lr=1"


def test_a_trial_that_lacks_a_run_is_not_chosen():
    means = mean_accuracies(TRIALS, lambda cell: None if (cell.trial, cell.seed) == ("lr=3", 1001) else float(cell.trial[-1]))
    assert list(means) == ["lr=1", "lr=2"]
    assert best_trial(means) == "lr=2"


def test_where_no_trial_could_be_trained_there_is_none():
    assert best_trial(mean_accuracies(TRIALS, lambda cell: None)) is None
