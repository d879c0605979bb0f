"""What a page is made of: sections of texts, tables and figures. The templates turn them into HTML and escape every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

__all__ = [
    "Block",
    "Cell",
    "Command",
    "Facts",
    "Figures",
    "Highlight",
    "Legend",
    "LegendEntry",
    "Plot",
    "Points",
    "Section",
    "Table",
    "Text",
]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What it says.
        flag: A word of warning beside it, such as ``not met``.
        shade: How strongly it is coloured, from 0 to 1, or None.
        low: Left end of an interval drawn in it, as a share of its width, or None.
        middle: Where its point lies.
        high: Right end.
    """

    text: str
    flag: str = ""
    shade: float | None = None
    low: float | None = None
    middle: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Points:
    """Sentences, one below the other, behind words that introduce them."""

    kind: ClassVar[str] = "points"
    lead: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Command:
    """What to type."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        caption: What it shows.
        columns: Headings.
        rows: Cells; a text stands for a plain cell.
        text_columns: Positions of columns of words, beside the first; all others hold numbers.
        folded: The line behind which it is hidden until it is opened; empty for a table that is always seen.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    text_columns: tuple[int, ...] = ()
    folded: str = ""


@dataclass(frozen=True)
class Facts:
    """Names with values, one a line."""

    kind: ClassVar[str] = "facts"
    caption: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Plot:
    """A drawing.

    Args:
        title: Its heading.
        alternative: What one would see, in words.
        size: Its width and height, of which the page keeps the ratio.
        content: The drawing; made by :mod:`holdfast.report.svg` and by nothing else, for it is not escaped.
    """

    title: str
    alternative: str
    size: tuple[int, int]
    content: str


@dataclass(frozen=True)
class LegendEntry:
    """What one colour and marker stand for.

    Args:
        text: What it is.
        color: As in a style sheet.
        marker: A sign that looks like the marker.
    """

    text: str
    color: str
    marker: str


@dataclass(frozen=True)
class Legend:
    """What colours and markers of the figures above stand for."""

    kind: ClassVar[str] = "legend"
    entries: Sequence[LegendEntry]


@dataclass(frozen=True)
class Figures:
    """Drawings side by side where there is room."""

    kind: ClassVar[str] = "figures"
    plots: Sequence[Plot]


Block = Text | Points | Command | Table | Facts | Figures | Legend


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: Its anchor.
        title: Its heading.
        meaning: What it tells.
        doubt: When not to believe it.
        blocks: Its content.
    """

    name: str
    title: str
    meaning: str
    doubt: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Highlight:
    """A number that is seen first."""

    label: str
    value: str
    note: str
