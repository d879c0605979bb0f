"""How methods and differences are told apart in the figures of a comparison, and how they are written."""

from __future__ import annotations

from typing import Any, Final

from holdfast.compare.record import Interval
from holdfast.report.blocks import Legend, LegendEntry
from holdfast.report.svg import COLORS, GREY, MARKERS

__all__ = ["VERDICTS", "color", "dashes", "interval_of_points", "legend", "marker", "p_value", "points", "signs"]

_DASHES: Final = (("solid", "━"), ((0, (5, 2)), "╍"), ((0, (1.5, 1.5)), "┅"), ((0, (6, 2, 1.5, 2)), "┉"))

VERDICTS: Final = {"better": COLORS[2], "worse": COLORS[1], "no difference shown": GREY}
"""Colours of verdicts; their words stand beside them wherever they are used."""

_SIGNS: Final = dict(zip(MARKERS, "●■▲◆▼✚✖★", strict=True))


def color(place: int) -> str:
    """The colour of the method at a place."""
    return COLORS[place % len(COLORS)]


def marker(place: int) -> str:
    """Its marker: with its colour it is unlike all of the first 64."""
    return MARKERS[(place + place // len(COLORS)) % len(MARKERS)]


def dashes(place: int) -> tuple[Any, str]:
    """How its line is drawn, and a sign that looks like it: with its colour unlike all of the first 32."""
    return _DASHES[(place + place // len(COLORS)) % len(_DASHES)]


def signs(place: int) -> str:
    """A sign that looks like its marker."""
    return _SIGNS[marker(place)]


def legend(names: list[str]) -> Legend:
    """What the colours and markers of methods stand for."""
    return Legend([LegendEntry(name, color(place), signs(place)) for place, name in enumerate(names)])


def points(difference: float | None) -> str:
    """A difference of shares in points.

    Example:
        >>> points(0.0213), points(None)
        ('+2.13', '-')
    """
    return "-" if difference is None else f"{100 * difference:+.2f}"


def interval_of_points(ends: Interval | None) -> str:
    """The ends of the interval of a difference."""
    return "" if ends is None else f" ({points(ends[0])} to {points(ends[1])})"


def p_value(p: float | None) -> str:
    """What a p value is.

    Example:
        >>> p_value(0.0213), p_value(1e-9), p_value(None)
        ('= 0.021', '< 0.001', '-')
    """
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
