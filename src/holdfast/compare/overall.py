"""Methods over several settings: mean ranks with their critical difference, wins and losses, and Wilcoxon across six or more datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from holdfast.compare.pairs import known, tally
from holdfast.compare.ranking import FEWEST_DATASETS, critical_difference, friedman_p, ranks, wilcoxon_p
from holdfast.compare.record import MethodRow, Overall, OverallMethod, OverallPair, PairRow, SettingRow
from holdfast.compare.statistics import Verdict, holm, verdict

__all__ = ["overall"]


def overall(
    settings: Sequence[SettingRow], methods: Sequence[MethodRow], pairs: Sequence[PairRow], family: Sequence[tuple[str, str]]
) -> Overall | None:
    """What several settings show together; None for a single one.

    Settings of one dataset (other models, other shares of it) are no independent witnesses: Wilcoxon's test, which takes datasets as
    draws from those one might meet, gets one number a dataset, the mean over its settings. Ranks, wins and losses are over settings.
    """
    if len(settings) < 2:
        return None
    names = list(dict.fromkeys(row.name for row in methods))
    table = _means(len(settings), methods, names)
    found = [_pair(pair, settings, [row for row in pairs if (row.a, row.b) == pair]) for pair in family]
    mean_ranks = ranks(table).mean(axis=0).tolist() if len(table) else [None] * len(names)
    return Overall(
        len(table),
        len({row.data for row in settings}),
        friedman_p(table),
        critical_difference(len(names), len(table)),
        tuple(map(OverallMethod, names, mean_ranks)),
        tuple(_judged(found)),
    )


def _means(count: int, methods: Sequence[MethodRow], names: Sequence[str]) -> np.ndarray:
    """Mean accuracies (settings, methods) of the settings in which all methods have one."""
    means = {(row.setting, row.name): row.mean for row in methods}
    rows = [[means.get((setting, name)) for name in names] for setting in range(count)]
    return np.array([row for row in rows if None not in row], dtype=np.float64).reshape(-1, len(names))


def _pair(pair: tuple[str, str], settings: Sequence[SettingRow], rows: Sequence[PairRow]) -> OverallPair:
    """A pair, before Holm's correction over the others."""
    differences = {row.setting: row.difference for row in rows if row.difference is not None}
    by_dataset = _by_dataset(settings, differences)
    wins, ties, losses = tally(differences.values())
    verdicts = [row.verdict for row in rows]
    p = wilcoxon_p(by_dataset)
    return OverallPair(
        *pair,
        n=len(differences),
        n_datasets=len(by_dataset),
        difference=float(np.mean(by_dataset)) if by_dataset else None,
        wins=wins,
        ties=ties,
        losses=losses,
        better=verdicts.count("better"),
        worse=verdicts.count("worse"),
        p=p,
        p_holm=None,
        verdict="no difference shown",
        note="" if p is not None else f"Wilcoxon's test needs {FEWEST_DATASETS} datasets, and {len(by_dataset)} have both methods.",
    )


def _by_dataset(settings: Sequence[SettingRow], differences: Mapping[int, float]) -> list[float]:
    """The mean difference of each dataset over its settings."""
    found: dict[str, list[float]] = {}
    for place, difference in differences.items():
        found.setdefault(settings[place].data, []).append(difference)
    return [float(np.mean(values)) for values in found.values()]


def _judged(pairs: Sequence[OverallPair]) -> list[OverallPair]:
    """The pairs with corrected p values and verdicts."""
    if not pairs:
        return []
    corrected = holm([np.nan if pair.p is None else pair.p for pair in pairs])
    return [
        replace(pair, p_holm=known(p), verdict=cast(Verdict, str(verdict(pair.difference or 0.0, p))))
        for pair, p in zip(pairs, corrected, strict=True)
    ]
