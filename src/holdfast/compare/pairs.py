"""Methods and pairs of methods of one setting, from the rows of its runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias, cast

import numpy as np

from holdfast.compare.record import DataSeeds, Interval, PairRow, RunRow
from holdfast.compare.statistics import EQUAL, Floats, PairedT, Verdict, holm, holm_levels, paired_t, verdict

__all__ = ["Scores", "family", "interval", "known", "paired_rows", "scores_of", "tally"]

Seeds: TypeAlias = tuple[int, int]
Scores: TypeAlias = Mapping[str, Mapping[Seeds, float]]
"""Of each method, the test accuracy by (data seed, seed)."""


def scores_of(runs: Iterable[RunRow], names: Sequence[str]) -> Scores:
    """Test accuracies of the runs of one setting; those that only tuned, and those without a finite accuracy, are left out."""
    found: dict[str, dict[Seeds, float]] = {name: {} for name in names}
    for run in runs:
        if not run.tuning and run.accuracy is not None:
            found[run.method][run.data_seed, run.seed] = run.accuracy
    return found


def family(names: Sequence[str], baseline: str, *, every_pair: bool) -> list[tuple[str, str]]:
    """The pairs (a, b) that are looked at, b being the baseline or the earlier one: what Holm's correction is over.

    Example:
        >>> family(["plain", "l2-sp", "bss"], "plain", every_pair=False)
        [('l2-sp', 'plain'), ('bss', 'plain')]
    """
    if every_pair:
        ordered = [baseline, *(name for name in names if name != baseline)]
        return [(later, earlier) for earlier, later in combinations(ordered, 2)]
    return [(name, baseline) for name in names if name != baseline]


def paired_rows(setting: int, scores: Scores, pairs: Sequence[tuple[str, str]]) -> list[PairRow]:
    """Each pair over the cells that both methods have.

    The verdict is about the data that were drawn: all cells of a pair, whatever their data seed, are taken as draws of equal standing.
    Where a data seed has several training seeds its cells share their data, so that a difference which varies with the data makes them
    alike; averaged over these very draws the verdict still holds (the spread between draws only widens the interval), while for other
    draws :attr:`PairRow.data_seeds` averages the training seeds first. With one training seed for each data seed both are the same.
    """
    differences = [_differences(scores[a], scores[b]) for a, b in pairs]
    tests = [paired_t(list(cells.values())) for cells in differences]
    p = np.array([float(test.p) for test in tests])
    corrected, levels = (holm(p), holm_levels(p)) if pairs else (p, p)
    return [
        _row(setting, pair, cells, test, paired_t(list(cells.values()), level), float(corrected[place]))
        for place, (pair, cells, test, level) in enumerate(zip(pairs, differences, tests, levels, strict=True))
    ]


def tally(differences: Iterable[float]) -> tuple[int, int, int]:
    """How many differences are above 0, are 0 up to rounding, and are below it.

    Example:
        >>> tally([0.1, 0.0, 1e-15, -0.2])
        (1, 2, 1)
    """
    signs = [0 if abs(value) <= EQUAL else math.copysign(1, value) for value in differences]
    return signs.count(1), signs.count(0), signs.count(-1)


def known(value: float | Floats) -> float | None:
    """A number of an array as the record has it: None for NaN."""
    return None if math.isnan(value) else float(value)


def interval(test: PairedT) -> Interval | None:
    """The ends of an interval, None where there is none."""
    return None if math.isnan(test.low) else (float(test.low), float(test.high))


def _differences(a: Mapping[Seeds, float], b: Mapping[Seeds, float]) -> dict[Seeds, float]:
    """What ``a`` has more than ``b`` in each cell that both have, in the order of the seeds."""
    return {seeds: a[seeds] - b[seeds] for seeds in sorted(a.keys() & b.keys())}


def _row(setting: int, pair: tuple[str, str], cells: Mapping[Seeds, float], test: PairedT, judged: PairedT, corrected: float) -> PairRow:
    word = cast(Verdict, str(verdict(test.mean, corrected)))
    over_data = _data_seeds(cells)
    wins, ties, losses = tally(cells.values())
    return PairRow(
        setting,
        *pair,
        n=len(cells),
        difference=known(test.mean),
        std=known(test.std),
        ci95=interval(test),
        ci_holm=interval(judged),
        p=known(test.p),
        p_holm=None if math.isnan(corrected) else corrected,
        wins=wins,
        ties=ties,
        losses=losses,
        verdict=word,
        data_seeds=over_data,
        note=_note(list(cells.values()), word, over_data),
    )


def _data_seeds(cells: Mapping[Seeds, float]) -> DataSeeds | None:
    """The difference over data seeds, where there are several of them and one has several training seeds."""
    by_data: dict[int, list[float]] = {}
    for (data_seed, _), difference in cells.items():
        by_data.setdefault(data_seed, []).append(difference)
    if len(by_data) < 2 or len(by_data) == len(cells):
        return None
    test = paired_t([float(np.mean(values)) for values in by_data.values()])
    return DataSeeds(len(by_data), interval(test), known(test.p))


def _note(differences: Sequence[float], word: Verdict, over_data: DataSeeds | None) -> str:
    """What somebody who reads the row has to know; empty where there is nothing."""
    n = len(differences)
    if n == 0:
        return "No cell has both, so nothing is known of the difference."
    if n == 1:
        return "One cell has both, so there is no interval and no verdict is possible: give more seeds."
    if np.ptp(differences) <= EQUAL:
        return f"All {n} differences are equal, so their spread is not known and no verdict is possible: give more seeds or test examples."
    if word != "no difference shown" and over_data is not None and not over_data.confirms:
        return (
            f"The verdict is about the {over_data.n} draws of the data that were compared. Over the draws {_ends(over_data.ci95)}, so it "
            "may not hold for others: give more data seeds."
        )
    return ""


def _ends(ends: Interval | None) -> str:
    """An interval in words."""
    if ends is None:
        return "there is no interval"
    return f"the interval is {100 * ends[0]:+.2f} to {100 * ends[1]:+.2f} points"
