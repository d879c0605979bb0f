"""Two networks on the same test examples: McNemar's test, and an interval for the difference of their accuracies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

__all__ = ["PairedAccuracies", "paired_accuracies"]


class PairedAccuracies(NamedTuple):
    """The difference of two accuracies on the same examples, its 95 % interval, and the exact two-sided p value of McNemar's test."""

    difference: float
    ci95: tuple[float, float]
    p: float


def paired_accuracies(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedAccuracies:
    """How much more often ``first`` is right than ``second``.

    It is about these two networks and new examples like these; what another training would have given is not in it. The interval is the
    adjusted Wald interval of Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37 (2012). Under McNemar's hypothesis the examples on which one alone is
    right fall to either with probability 1/2; with no such example p is 1.

    Args:
        first: Whether each example (N,) is classified rightly.
        second: The same for the other network, in the same order.
    """
    count = len(first)
    wins, losses = int((first & ~second).sum()), int((~first & second).sum())
    up, down = (wins + 1) / (count + 2), (losses + 1) / (count + 2)
    reach = float(norm.ppf(0.975)) * math.sqrt((up + down - (up - down) ** 2) / (count + 2))
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    found: Any = (up - down - reach, up - down + reach)
    return PairedAccuracies((wins - losses) / count, found, p)
