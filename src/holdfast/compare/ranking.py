"""Methods ranked over several cells or settings, and how far apart mean ranks must be to count.

Sources: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006), sections 3.1.3 and 3.2.2; Nemenyi,
Distribution-free multiple comparisons (1963).
"""

from __future__ import annotations

import math
import warnings
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from holdfast.compare.statistics import ALPHA, EQUAL, Floats

__all__ = ["FEWEST_DATASETS", "critical_difference", "friedman_p", "ranks", "wilcoxon_p"]

FEWEST_DATASETS: Final = 6
"""Below six, no outcome of a two-sided Wilcoxon test has a p value under 0.05: five give 1/16 at best."""


def ranks(scores: ArrayLike) -> Floats:
    """Ranks of methods (blocks, methods): 1 for the highest score of a row, equal scores the mean of their places.

    Example:
        >>> ranks([[0.9, 0.7, 0.9]]).tolist()
        [[1.5, 3.0, 1.5]]
    """
    return np.asarray(stats.rankdata(-_rounded(scores), axis=-1))


def friedman_p(scores: ArrayLike) -> float | None:
    """Friedman's test that all methods rank alike over blocks (blocks, methods); None for fewer than three methods or two blocks.

    The chi-square form, which is cautious where blocks are few.
    """
    values = _rounded(scores)
    blocks, methods = values.shape
    if methods < 3 or blocks < 2:
        return None
    if (np.ptp(values, axis=1) == 0).all():
        return 1.0  # nothing differs anywhere, where scipy divides 0 by 0
    return float(stats.friedmanchisquare(*values.T).pvalue)


def critical_difference(methods: int, blocks: int, alpha: float = ALPHA) -> float | None:
    """How far apart two mean ranks over ``blocks`` must be to differ, by Nemenyi's test among ``methods``; None below two of either.

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    if methods < 2 or blocks < 2:
        return None
    studentized = float(stats.studentized_range.isf(alpha, methods, math.inf))
    return studentized / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * blocks))


def wilcoxon_p(differences: ArrayLike) -> float | None:
    """Two-sided p value of Wilcoxon's signed-rank test; None below six differences.

    Differences of zero are shared out between both sides, as Demšar recommends.
    """
    values = _rounded(differences)
    if len(values) < FEWEST_DATASETS:
        return None
    if not values.any():
        return 1.0
    with warnings.catch_warnings():  # older SciPy says that the normal approximation is rough where there are ties
        warnings.simplefilter("ignore", UserWarning)
        return float(stats.wilcoxon(values, zero_method="zsplit").pvalue)


def _rounded(values: ArrayLike) -> Floats:
    """Values that are the same up to rounding made the same."""
    exact: Floats = np.asarray(values, dtype=np.float64)
    return exact.round(round(-math.log10(EQUAL)))
