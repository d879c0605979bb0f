"""Numbers with their errors, as cells of a table."""

from __future__ import annotations

import math
from typing import Any

from holdfast.report.blocks import Cell
from holdfast.report.reading import Estimate, number, numbers, whole
from holdfast.wording import percent, significant

__all__ = ["accuracy_interval", "amount", "estimated", "integer", "interval_text", "share", "with_error"]

NEGLIGIBLE = 1e-4
"""An error smaller than this part of its number is not shown."""


def amount(value: Any, digits: int = 3) -> str:
    """A number of any size, with zeros at its end that count; a dash where there is none.

    Example:
        >>> amount(0.2), amount(13), amount(5e-7), amount(None)
        ('0.200', '13.0', '5 × 10⁻⁷', '-')
    """
    found = number(value)
    if found is None or not 1e-4 <= abs(found) < 10**digits:
        return significant(found, digits)
    return f"{found:#.{digits}g}".removesuffix(".")


def share(value: Any) -> str:
    """A share in percent, a dash where there is none."""
    return percent(number(value))


def integer(value: Any) -> str:
    """A whole number with its thousands apart, a dash where there is none.

    Example:
        >>> integer(213586).replace("\u202f", "_"), integer(None)
        ('213_586', '-')
    """
    found = whole(value)
    return "-" if found is None else f"{found:,}".replace(",", "\u202f")


def interval_text(interval: Any) -> str:
    """The ends of an interval of shares, in percent; empty for anything else.

    Example:
        >>> interval_text([0.748, 0.8702])
        '74.8 to 87.0 %'
    """
    ends = numbers(list(interval)) if isinstance(interval, list | tuple) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return ""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def accuracy_interval(value: Any, interval: Any) -> str:
    """An accuracy with its interval: never a bare point."""
    ends = interval_text(interval)
    return f"{share(value)} ({ends})" if ends else share(value)


def estimated(entry: Any) -> Cell:
    """An entry of an audit, ``{"value": …, "stderr": …, "met": …}`` or a number, as a cell."""
    return with_error(Estimate.of(entry))


def with_error(estimate: Estimate) -> Cell:
    """A number with half of its 95 % interval, to the digits that the error leaves; marked where it is not as exact as asked.

    Where no error is known, or it is too small for the digits shown, the number stands alone.

    Example:
        >>> with_error(Estimate(12.3456, 0.2)).text, with_error(Estimate(1.5e-7, 1e-9)).text
        ('12.35 ± 0.39', '(1.500 ± 0.020) × 10⁻⁷')
    """
    if estimate.value is None:
        return Cell("-")
    flag = "" if estimate.met else "not met"
    half = estimate.half_width
    if half is None or half < NEGLIGIBLE * abs(estimate.value) or not half:
        return Cell(amount(estimate.value), flag)
    exponent = math.floor(math.log10(max(abs(estimate.value), half)))
    scale = exponent if exponent < -4 or exponent > 5 else 0
    value, half = estimate.value / 10.0**scale, half / 10.0**scale
    decimals = max(0, 1 - math.floor(math.log10(half)))
    text = f"{value:.{decimals}f} ± {half:.{decimals}f}"
    return Cell(f"({text}) × {significant(10.0**scale, 1).removeprefix('1 × ')}" if scale else text, flag)
