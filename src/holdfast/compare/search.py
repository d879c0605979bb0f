"""Which trial of a method's grid is compared: the one with the best mean validation accuracy. The test split has no say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from holdfast.compare.cells import Cell

__all__ = ["best_trial", "mean_accuracies"]

Validated = Callable[[Cell], float | None]
"""Validation accuracy of a cell, or None where its run could not be made."""


def mean_accuracies(trials: Mapping[str, Sequence[Cell]], validated: Validated) -> dict[str, float]:
    """Mean validation accuracy of each trial over its seeds; one that has not all of them is left out."""
    found = {name: [validated(cell) for cell in cells] for name, cells in trials.items()}
    return {name: statistics.fmean(value for value in values if value is not None) for name, values in found.items() if None not in values}


def best_trial(means: Mapping[str, float]) -> str | None:
    """The trial with the best mean; of equal ones the first. None where there is none.

    Example:
        >>> best_trial({"lr=0.01": 0.5, "lr=0.1": 0.75, "lr=1": 0.75})
        'lr=0.1'
    """
    return max(means, key=means.__getitem__, default=None)
