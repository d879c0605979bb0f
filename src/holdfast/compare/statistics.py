"""The paired t interval, Holm's correction and the verdict, over arrays: the last axis is what is averaged or corrected over.

How the three fit together. Each pair of methods has the differences of its cells, their two-sided t test and two intervals. ``ci95`` is
the plain 95 % interval of that pair alone: it covers the true difference in 95 % of comparisons. Holm's correction (Scandinavian Journal
of Statistics 6, 1979) then bounds by 5 % the chance that *any* of the pairs is called different where it is not, and the verdict follows
the corrected p value: ``better`` or ``worse`` below 0.05. Since correction only raises p values, a verdict implies that ``ci95`` excludes
0; the reverse does not hold, and where several pairs are looked at it must not. ``ci_holm`` is the same t interval at the level at which
Holm judges the pair, so it excludes 0 exactly where there is a verdict.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["ALPHA", "EQUAL", "PairedT", "Verdict", "holm", "holm_levels", "paired_t", "t_interval", "verdict"]

Floats: TypeAlias = NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference shown"]

ALPHA: Final = 0.05
EQUAL: Final = 1e-12
"""Accuracies closer than this are the same; what is left between them is rounding."""


class PairedT(NamedTuple):
    """Mean of paired differences, their standard deviation (n - 1), the ends of the t interval and the two-sided p value.

    NaN where it is not known: the deviation needs two differences, and interval and p value need two that are not the same.
    """

    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    p: Floats


def paired_t(differences: ArrayLike, alpha: ArrayLike = ALPHA) -> PairedT:
    """Student's t interval of level ``1 - alpha`` for a mean difference.

    It assumes that the differences are independent draws from one distribution which is not far from normal. Where all of them are
    equal they say nothing of their spread, so there is no interval and no p value: accuracies come in steps of one test example, and
    two or three equal differences are no certainty.

    Args:
        differences: One for each cell (..., n).
        alpha: One minus the coverage (...).

    Example:
        >>> result = paired_t([1.0, 2.0, 3.0])
        >>> [round(float(value), 3) for value in result]
        [2.0, 1.0, -0.484, 4.484, 0.074]
    """
    values = np.asarray(differences, dtype=np.float64)
    n = values.shape[-1]
    mean = values.mean(axis=-1) if n else np.full(values.shape[:-1], np.nan)
    std = values.std(axis=-1, ddof=1) if n > 1 else np.full(mean.shape, np.nan)
    spread = np.ptp(values, axis=-1) > EQUAL if n > 1 else np.zeros(mean.shape, dtype=bool)
    error = np.where(spread, std / np.sqrt(max(n, 1)), np.nan)
    low, high = t_interval(mean, error, n, alpha)
    return PairedT(mean, std, low, high, 2 * special.stdtr(max(n - 1, 1), -np.abs(mean / error)))


def t_interval(mean: ArrayLike, error: ArrayLike, n: int, alpha: ArrayLike = ALPHA) -> tuple[Floats, Floats]:
    """Ends of the t interval of level ``1 - alpha`` around a mean of ``n`` values with this standard error."""
    reach = -special.stdtrit(max(n - 1, 1), np.asarray(alpha) / 2) * np.asarray(error)
    return np.asarray(mean - reach), np.asarray(mean + reach)


def holm(p: ArrayLike) -> Floats:
    """Holm's corrected p values (..., m) of a family of m tests (..., m).

    The smallest p value is multiplied by m, the next by m - 1 and so on; none falls below the one before it, none exceeds 1. A test that
    could not be made (NaN) still counts in m, as one that shows nothing, and stays NaN.

    Example:
        >>> [round(float(value), 3) for value in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values, order, steps = _sorted(p)
    stepped = np.minimum(1.0, np.maximum.accumulate(values * steps, axis=-1))
    return np.where(np.isnan(p), np.nan, _unsorted(stepped, order))


def holm_levels(p: ArrayLike, alpha: float = ALPHA) -> Floats:
    """The alpha at which Holm judges each test (..., m) of a family.

    The k-th smallest p value, counted from 0, is held against ``alpha / (m - k)``; once one is not below it the procedure stops, and that
    level stands for all that follow. A t interval at this alpha therefore excludes 0 exactly where the corrected p value is below
    ``alpha``.

    Example:
        >>> [round(float(value), 4) for value in holm_levels([0.01, 0.04, 0.03])]
        [0.0167, 0.025, 0.025]
    """
    values, order, steps = _sorted(p)
    passed = np.logical_and.accumulate(values * steps < alpha, axis=-1).sum(axis=-1, keepdims=True)
    m = values.shape[-1]
    return _unsorted(alpha / (m - np.minimum(np.arange(m), passed)), order)


def verdict(mean: ArrayLike, p_corrected: ArrayLike, alpha: float = ALPHA) -> Any:
    """``better``, ``worse`` or ``no difference shown`` for mean differences and their corrected p values, as an array of texts.

    Example:
        >>> verdict([0.02, -0.02, 0.02], [0.01, 0.01, 0.2]).tolist()
        ['better', 'worse', 'no difference shown']
    """
    words = np.where(np.asarray(mean) > 0, "better", "worse")
    return np.where(np.asarray(p_corrected) < alpha, words, "no difference shown")


def _sorted(p: ArrayLike) -> tuple[Floats, NDArray[np.intp], NDArray[np.int64]]:
    """P values in rising order, NaN as 1; where each stood; and how many tests are left at each."""
    values = np.asarray(p, dtype=np.float64)
    values = np.where(np.isnan(values), 1.0, values)
    order = np.argsort(values, axis=-1, kind="stable")
    m = values.shape[-1]
    return np.take_along_axis(values, order, axis=-1), order, m - np.arange(m)


def _unsorted(values: Floats, order: NDArray[np.intp]) -> Floats:
    """Values back at the places they were sorted from."""
    back = np.empty_like(values)
    np.put_along_axis(back, order, values, axis=-1)
    return back
