"""One row a method and setting: means over its runs, and what its search took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from holdfast.compare.pairs import Scores, interval, known
from holdfast.compare.ranking import critical_difference, friedman_p, ranks
from holdfast.compare.record import Interval, MethodRow, RunRow, SettingRow
from holdfast.compare.statistics import paired_t
from holdfast.run import SplitMetrics

__all__ = ["method_row", "setting_row"]


def method_row(setting: int, name: str, runs: Sequence[RunRow], scores: Scores) -> MethodRow:
    """What a method reached in a setting.

    The interval is Student's over its cells. It covers the luck of the seeds for one method alone, which is larger than that of a
    difference between methods with the same seeds: it is no basis for comparing them.

    Args:
        setting: Place of the setting.
        name: The method.
        runs: Its runs there, those that only tuned included.
        scores: Test accuracies of all methods there.
    """
    final = [run for run in runs if not run.tuning]
    tuning = [run for run in runs if run.tuning]
    test = paired_t(list(scores[name].values()))
    return MethodRow(
        setting,
        name,
        n=len(scores[name]),
        mean=known(test.mean),
        std=known(test.std),
        ci95=_shares(interval(test)),
        rank=_mean_ranks(scores).get(name),
        val_accuracy=_mean(_metric(run.metrics.val, "accuracy") for run in final),
        **{key: _mean(_metric(run.metrics.test, key) for run in final) for key in ("macro_f1", "nll", "ece")},
        selections=_selections(final),
        seconds_per_step=_mean(run.cost.seconds_per_step for run in final),
        seconds_total=_mean(run.cost.seconds_total for run in final),
        peak_memory_mib=_over((run.cost.peak_memory_mib for run in final), max),
        extra_data=tuple(dict.fromkeys(name for run in final for name in run.cost.extra_data)),
        trial=", ".join(dict.fromkeys(run.trial for run in final if run.trial)),
        trials=len({run.trial for run in tuning}),
        tuning_runs=len(tuning),
        tuning_seconds=sum(run.cost.seconds_total or 0.0 for run in tuning),
    )


def setting_row(data: str, model: str, fraction: float | None, scores: Scores) -> SettingRow:
    """A setting, with the tests of ranks over the cells that all its methods have."""
    table = _shared(scores)
    blocks, methods = table.shape
    return SettingRow(data, model, fraction, blocks, friedman_p(table), critical_difference(methods, blocks))


def _shared(scores: Scores) -> np.ndarray:
    """Accuracies (cells, methods) of the cells that all methods have."""
    cells = sorted(set.intersection(*(set(found) for found in scores.values())))
    return np.array([[found[seeds] for found in scores.values()] for seeds in cells]).reshape(len(cells), len(scores))


def _mean_ranks(scores: Scores) -> dict[str, float]:
    """Of each method the mean rank over the cells that all have; empty where there is none."""
    table = _shared(scores)
    return dict(zip(scores, ranks(table).mean(axis=0).tolist(), strict=True)) if len(table) else {}


def _shares(ends: Interval | None) -> Interval | None:
    """The part of an interval that an accuracy can be in: few runs give one that reaches beyond."""
    return None if ends is None else (max(0.0, ends[0]), min(1.0, ends[1]))


def _selections(runs: Iterable[RunRow]) -> dict[str, float | None]:
    """Mean test accuracy by each criterion, of the weights that the run keeps."""
    found: dict[str, list[float | None]] = {}
    for run in runs:
        for selection in run.metrics.selections:
            if selection.weights == run.metrics.selections[0].weights:
                found.setdefault(selection.by, []).append(selection.test)
    return {by: _mean(values) for by, values in found.items()}


def _metric(metrics: SplitMetrics | None, key: str) -> float | None:
    return None if metrics is None else getattr(metrics, key)


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of numbers, None unless all of them are known."""
    return _over(values, lambda numbers: sum(numbers) / len(numbers))


def _over(values: Iterable[float | None], summary: Callable[[list[float]], float]) -> float | None:
    found = list(values)
    numbers = [value for value in found if value is not None]
    return summary(numbers) if numbers and len(numbers) == len(found) else None
