"""Numbers as people read them. No torch at import."""

from __future__ import annotations

import math

__all__ = ["count", "decimal", "duration", "percent", "significant"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent.

    Example:
        >>> percent(0.7124), percent(None)
        ('71.2 %', '-')
    """
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals, or a dash.

    Example:
        >>> decimal(0.51234)
        '0.512'
    """
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    Example:
        >>> duration(0.84), duration(64), duration(7500)
        ('0.8 s', '1 min 04 s', '2 h 05 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min {whole % 60:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int) -> str:
    """A large number, shortened.

    Example:
        >>> count(950), count(215_000), count(25_600_000)
        ('950', '215 k', '25.6 M')
    """
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f} M"
    return f"{round(number / 1000)} k" if number >= 10_000 else str(number)


def significant(value: float | None, digits: int = 3) -> str:
    """A number of any size with so many digits that count.

    Example:
        >>> significant(0.51234), significant(213586.0), significant(-1.5e-7), significant(None)
        ('0.512', '214000', '-1.5 × 10⁻⁷', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if not exponent:
        return mantissa
    if 0 <= int(exponent) < 6:
        return f"{float(f'{value:.{digits}g}'):.0f}"
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"
