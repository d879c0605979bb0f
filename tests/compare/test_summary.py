"""What rows of runs show: methods, pairs and settings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from tests.compare.rows import PHOTOS, row, rows

from holdfast.compare.cells import Setting
from holdfast.compare.statistics import paired_t
from holdfast.compare.summary import compare_rows
from holdfast.errors import ConfigError

PLAIN = [0.80, 0.82, 0.81, 0.79, 0.83]


def pair(comparison, a, b="plain"):
    (found,) = [entry for entry in comparison.pairs if (entry.a, entry.b) == (a, b)]
    return found


def method(comparison, name, setting=0):
    (found,) = [entry for entry in comparison.methods if (entry.name, entry.setting) == (name, setting)]
    return found


def test_a_pair_is_compared_over_its_seeds():
    better = [0.84, 0.85, 0.85, 0.82, 0.87]
    found = pair(compare_rows(rows({"plain": PLAIN, "adarand": better})), "adarand")
    reference = stats.ttest_rel(better, PLAIN)
    assert found.n == 5
    assert found.difference == pytest.approx(0.036)
    assert found.p == found.p_holm == pytest.approx(reference.pvalue)
    assert found.ci95 == found.ci_holm == pytest.approx(tuple(reference.confidence_interval()))
    assert (found.wins, found.ties, found.losses) == (5, 0, 0)
    assert (found.verdict, found.note) == ("better", "")


def test_the_other_way_round_it_is_worse():
    found = pair(compare_rows(rows({"plain": PLAIN, "bss": [value - 0.03 - 0.001 * place for place, value in enumerate(PLAIN)]})), "bss")
    assert found.verdict == "worse"
    assert found.difference < 0


def test_only_cells_that_both_methods_have_are_compared():
    runs = [*rows({"plain": PLAIN, "adarand": PLAIN[:2]}), row("adarand", 0.3, 17)]
    found = pair(compare_rows(runs), "adarand")
    assert (found.n, found.difference, found.ties) == (2, pytest.approx(0), 2)


def test_cells_of_other_data_seeds_are_no_pair():
    runs = [row("plain", 0.8, 0, 0), row("plain", 0.9, 0, 1), row("bss", 0.7, 0, 1), row("bss", 0.6, 1, 0)]
    found = pair(compare_rows(runs), "bss")
    assert (found.n, found.difference) == (1, pytest.approx(-0.2))


def test_one_cell_gives_no_interval_and_says_so():
    found = pair(compare_rows([row("plain", 0.8), row("bss", 0.9)]), "bss")
    assert (found.n, found.ci95, found.p, found.p_holm, found.std) == (1, None, None, None, None)
    assert found.verdict == "no difference shown"
    assert "no verdict is possible: give more seeds" in found.note


def test_what_is_to_be_known_of_several_pairs_is_said_once():
    comparison = compare_rows([row("plain", 0.8), row("bss", 0.9), row("delta", 0.7)])
    (note,) = comparison.pair_notes(0)
    assert note.startswith("bss, delta against plain: One cell has both")


def test_no_cell_in_common_is_said():
    found = pair(compare_rows([row("plain", 0.8, 0), row("bss", 0.9, 1)]), "bss")
    assert (found.n, found.difference, found.verdict) == (0, None, "no difference shown")
    assert "nothing is known" in found.note


def test_equal_differences_are_no_certainty():
    found = pair(compare_rows(rows({"plain": [0.8, 0.9], "bss": [0.81, 0.91]})), "bss")
    assert (found.ci95, found.p, found.verdict, found.wins) == (None, None, "no difference shown", 2)
    assert "All 2 differences are equal" in found.note


def test_holm_is_over_the_pairs_of_the_setting():
    shifts = {"a": [0.01, 0.03, 0.02], "b": [0.02, 0.05, 0.05], "c": [0.0, 0.01, -0.01]}
    runs = rows({"plain": PLAIN[:3], **{name: np.add(PLAIN[:3], shift).tolist() for name, shift in shifts.items()}})
    comparison = compare_rows(runs)
    alone = {name: float(paired_t(shift).p) for name, shift in shifts.items()}
    assert alone["b"] < alone["a"] < alone["c"]
    corrected = [3 * alone["b"], max(3 * alone["b"], 2 * alone["a"])]
    assert [pair(comparison, name).p_holm for name in "ba"] == pytest.approx(corrected)
    assert pair(comparison, "b").p == pytest.approx(alone["b"])
    assert pair(comparison, "b").ci_holm[0] < pair(comparison, "b").ci95[0]


def test_an_interval_may_exclude_zero_without_a_verdict_but_never_the_other_way_round():
    shifts = [[0.03, 0.05, 0.05], [0.0, 0.01, -0.01], [0.01, -0.01, 0.02], [0.02, 0.0, 0.01]]
    runs = rows({"plain": PLAIN[:3], **{f"m{place}": np.add(PLAIN[:3], shift).tolist() for place, shift in enumerate(shifts)}})
    found = pair(compare_rows(runs), "m0")
    assert found.ci95[0] > 0 > found.ci_holm[0]
    assert found.verdict == "no difference shown"


def test_all_others_are_compared_with_the_first_method_or_the_one_named():
    runs = rows({"plain": PLAIN, "bss": PLAIN, "delta": PLAIN})
    assert [(entry.a, entry.b) for entry in compare_rows(runs).pairs] == [("bss", "plain"), ("delta", "plain")]
    named = compare_rows(runs, baseline="bss")
    assert named.baseline == "bss"
    assert [(entry.a, entry.b) for entry in named.pairs] == [("plain", "bss"), ("delta", "bss")]


def test_every_pair_is_compared_where_asked_the_baseline_being_second():
    comparison = compare_rows(rows({"plain": PLAIN, "bss": PLAIN, "delta": PLAIN}), baseline="delta", every_pair=True)
    assert {(entry.a, entry.b) for entry in comparison.pairs} == {("plain", "delta"), ("bss", "delta"), ("bss", "plain")}


def test_an_unknown_baseline_is_named():
    with pytest.raises(ConfigError, match=r"--baseline plan: none of the methods is called so\. Did you mean 'plain'\?"):
        compare_rows(rows({"plain": PLAIN}), baseline="plan")


def test_two_runs_of_one_cell_are_refused():
    with pytest.raises(ConfigError, match="both plain with seed 0 and data seed 0"):
        compare_rows([row("plain", 0.8), row("plain", 0.9, trial="lr=1")])


def test_runs_that_only_tune_are_published_and_never_compared():
    runs = rows({"plain": PLAIN[:2], "bss": PLAIN[:2]}, trial="k=2")
    tuning = [row("bss", 0.99, 0, trial=trial, tuning=True, seconds=7.0) for trial in ("k=1", "k=2")]
    comparison = compare_rows([*tuning, *runs], methods=["plain", "bss"])
    found = method(comparison, "bss")
    assert len(comparison.runs) == 6
    assert (found.n, found.mean) == (2, pytest.approx(0.81))
    assert (found.trial, found.trials, found.tuning_runs, found.tuning_seconds) == ("k=2", 2, 2, 14.0)
    assert pair(comparison, "bss").n == 2


def test_a_row_of_a_method_holds_means_interval_rank_and_cost():
    runs = [row("plain", value, seed, seconds=10.0 * (seed + 1), extra_data=("source data x",)) for seed, value in enumerate((0.8, 0.9))]
    runs += [row("bss", value, seed) for seed, value in enumerate((0.7, 0.95))]
    found = method(compare_rows(runs), "plain")
    assert (found.n, found.mean, found.std) == (2, pytest.approx(0.85), pytest.approx(0.1 / 2**0.5))
    assert found.ci95 == pytest.approx((0.85 - 12.7062 * 0.05, 1.0), rel=1e-4)
    assert found.rank == 1.5
    assert (found.val_accuracy, found.macro_f1, found.nll, found.ece) == pytest.approx((0.85, 0.85, 0.5, 0.1))
    assert found.selections == pytest.approx({"val-accuracy": 0.85, "last": 0.84})
    assert (found.seconds_total, found.seconds_per_step, found.peak_memory_mib) == pytest.approx((15.0, 0.375, 901.0))
    assert found.extra_data == ("source data x",)


def test_selections_are_those_of_the_weights_that_are_kept():
    own = row("plain", 0.8)
    average = dataclasses.replace(own.metrics.selections[0], weights="ema", test=0.1)
    metrics = dataclasses.replace(own.metrics, selections=(*own.metrics.selections, average))
    found = method(compare_rows([dataclasses.replace(own, metrics=metrics)]), "plain")
    assert found.selections == pytest.approx({"val-accuracy": 0.8, "last": 0.79})


def test_a_setting_has_the_tests_of_ranks_over_cells_that_all_methods_have():
    runs = rows({"plain": PLAIN, "bss": PLAIN[::-1], "delta": PLAIN[:3]})
    (setting,) = compare_rows(runs).settings
    assert setting.n == 3
    assert setting.critical_difference == pytest.approx(2.343 * (12 / 18) ** 0.5, rel=1e-3)
    assert 0 < setting.friedman_p <= 1


def test_a_run_without_a_finite_accuracy_is_listed_and_not_compared():
    comparison = compare_rows([*rows({"plain": PLAIN[:2], "bss": PLAIN[:2]}), row("bss", None, 2), row("plain", 0.8, 2)])
    assert len(comparison.runs) == 6
    assert pair(comparison, "bss").n == 2


def test_settings_are_apart():
    cars = Setting("cars", "demo:glyphnet", 0.25)
    runs = rows({"plain": PLAIN, "bss": PLAIN}) + rows({"plain": PLAIN, "bss": [value - 0.1 for value in PLAIN]}, setting=cars)
    comparison = compare_rows(runs)
    assert [(entry.data, entry.fraction) for entry in comparison.settings] == [("photos", None), ("cars", 0.25)]
    assert [entry.difference for entry in comparison.pairs] == pytest.approx([0, -0.1])
    assert [run.data for run in comparison.runs_of(1)] == ["cars"] * 10


def test_a_setting_without_the_baseline_has_no_pairs():
    runs = [*rows({"plain": PLAIN, "bss": PLAIN}), *rows({"bss": PLAIN}, setting=Setting("cars", "demo:glyphnet"))]
    assert [entry.setting for entry in compare_rows(runs).pairs] == [0]


def grid(effects, cells=5, spread=0.001):
    """Of data seeds 0, 1, ... with these effects, several training seeds each."""
    noise = np.random.default_rng(0).normal(0, spread, size=(len(effects), cells))
    runs = [row("plain", 0.5, seed, data_seed) for data_seed in range(len(effects)) for seed in range(cells)]
    return runs + [
        row("bss", 0.5 + effect + noise[data_seed, seed], seed, data_seed)
        for data_seed, effect in enumerate(effects)
        for seed in range(cells)
    ]


def test_over_data_seeds_training_seeds_are_averaged_first():
    found = pair(compare_rows(grid([0.01, 0.03, 0.02])), "bss")
    values = {(run.data_seed, run.method): [] for run in grid([0.01, 0.03, 0.02])}
    for run in grid([0.01, 0.03, 0.02]):
        values[run.data_seed, run.method].append(run.accuracy)
    reference = paired_t([np.mean(values[draw, "bss"]) - np.mean(values[draw, "plain"]) for draw in range(3)])
    assert (found.n, found.data_seeds.n) == (15, 3)
    assert found.data_seeds.ci95 == pytest.approx((float(reference.low), float(reference.high)))
    assert found.data_seeds.p == pytest.approx(float(reference.p))


def test_a_verdict_that_may_not_hold_for_other_data_says_so():
    found = pair(compare_rows(grid([0.0, 0.02, 0.05])), "bss")
    assert found.verdict == "better"
    assert found.data_seeds.ci95[0] < 0
    assert "is about the 3 draws of the data that were compared" in found.note
    assert found.for_these_draws


def test_where_each_data_seed_has_one_training_seed_there_is_nothing_to_average():
    assert (
        pair(compare_rows([row(name, 0.5 + 0.01 * at, at, at) for name in ("plain", "bss") for at in range(4)]), "bss").data_seeds is None
    )


def test_missing_runs_are_said():
    from holdfast.compare.record import Failure

    failure = Failure("bss", *dataclasses.astuple(PHOTOS), 1, 0, "", False, "runs/x", "it burned")
    comparison = compare_rows(rows({"plain": PLAIN}), failures=[failure])
    assert comparison.failures == (failure,)
    assert comparison.notes[0].startswith("1 run is missing (1 failed)")


def test_no_runs_at_all_are_no_comparison_and_no_error():
    comparison = compare_rows([], methods=["plain", "bss"])
    assert (comparison.settings, comparison.pairs, comparison.overall, comparison.baseline) == ((), (), None, "plain")


def settings_of(shifts, names=None):
    """One setting a shift, three seeds each, bss that much above plain and delta far below."""
    noise = [0.001, -0.001, 0.002]
    found = []
    for place, shift in enumerate(shifts):
        setting = Setting((names or [f"data-{at}" for at in range(len(shifts))])[place], f"model-{place}")
        values = {"plain": PLAIN[:3], "bss": np.add(PLAIN[:3], np.add(noise, shift)).tolist(), "delta": [0.1, 0.11, 0.12]}
        found += rows(values, setting=setting)
    return found


def test_over_six_datasets_wilcoxon_gives_the_verdict():
    overall = compare_rows(settings_of([0.03, 0.02, 0.04, 0.05, 0.01, 0.06, 0.07])).overall
    bss, delta = overall.pairs
    assert (overall.n, overall.n_datasets) == (7, 7)
    assert (bss.wins, bss.ties, bss.losses, bss.n_datasets) == (7, 0, 0, 7)
    assert bss.p == pytest.approx(2 / 2**7)
    assert bss.p_holm == pytest.approx(4 / 2**7)
    assert (bss.verdict, delta.verdict) == ("better", "worse")
    assert [entry.rank for entry in overall.methods] == [2, 1, 3]
    assert overall.critical_difference == pytest.approx(2.343 * (12 / 42) ** 0.5, rel=1e-3)
    assert (bss.better, delta.worse) == (sum(entry.verdict == "better" for entry in compare_rows(settings_of([0.03])).pairs) + 6, 7)


def test_below_six_datasets_there_is_no_test_across_them():
    overall = compare_rows(settings_of([0.03] * 5)).overall
    assert [(entry.p, entry.p_holm, entry.verdict) for entry in overall.pairs] == [(None, None, "no difference shown")] * 2
    assert "needs 6 datasets, and 5 have both" in overall.pairs[0].note
    assert overall.pairs[0].wins == 5


def test_settings_of_one_dataset_count_as_one():
    overall = compare_rows(settings_of([0.03, 0.05, 0.02, 0.04, 0.05, 0.06], names=["a", "a", "b", "c", "d", "e"])).overall
    assert (overall.n, overall.n_datasets) == (6, 5)
    assert (overall.pairs[0].n, overall.pairs[0].n_datasets, overall.pairs[0].p) == (6, 5, None)
    mean = np.mean([np.mean([0.03, 0.05]), 0.02, 0.04, 0.05, 0.06]) + np.mean([0.001, -0.001, 0.002])
    assert overall.pairs[0].difference == pytest.approx(mean)


def test_ranks_over_settings_leave_out_those_that_lack_a_method():
    runs = settings_of([0.03, 0.02]) + rows({"plain": PLAIN, "bss": PLAIN}, setting=Setting("c", "m"))
    assert compare_rows(runs).overall.n == 2
