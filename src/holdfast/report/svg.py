"""Drawings as SVG that stands in a page: small, the same bytes each time, without pyplot and without a trace in matplotlib's settings."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, cast

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from holdfast.report.blocks import Plot

__all__ = ["COLORS", "GREY", "INK", "MARKERS", "NARROW", "WIDE", "draw", "label", "legend_above", "with_ids"]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5a5a00")
"""Told apart by colour-blind readers (Okabe and Ito); markers and dashes differ too, for print without colour."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, GREY = "#1f2328", "#8c959f"

WIDE, NARROW = (6.0, 3.5), (4.4, 3.2)
"""Inches of a figure that stands beside one other, or beside two."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "holdfast",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "text.usetex": False,
    "axes.facecolor": "none",
    "axes.edgecolor": "#57606a",
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 5),
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "path.simplify": True,
}
_UNSAID = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def draw(title: str, alternative: str, paint: Callable[[Axes], None], size: tuple[float, float] = WIDE) -> Plot:
    """A figure with one pair of axes.

    Args:
        title: Its heading.
        alternative: What one would see, in words.
        paint: Draws into the axes.
        size: Width and height in inches; a page scales it.
    """
    # Settings of the user's own do not change the report, and come back after it.
    with matplotlib.rc_context(cast(Any, {**_defaults(), **_STYLE})):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=_UNSAID)
    return Plot(title, alternative, (round(72 * size[0]), round(72 * size[1])), _inline(stream.getvalue()))


def label(text: str, longest: int = 24) -> str:
    r"""A name from data as text of a drawing: letters the font has, shortened in the middle.

    Example:
        >>> label("stages.3.blocks.2.mlp.fc1.weight"), label("漢字\n<b>")
        ('stages.3.bl….fc1.weight', '???<b>')
    """
    shown = "".join(sign if " " <= sign < "\x7f" or "\xa1" <= sign < "ɐ" else "?" for sign in text)
    if len(shown) <= longest:
        return shown
    half = (longest - 1) // 2
    return f"{shown[:half]}…{shown[-half:]}"


def legend_above(axes: Axes) -> None:
    """Names of what is drawn, above the axes, where they cover nothing: in two columns where the figure is wide enough for them."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    longest = max(map(len, axes.get_legend_handles_labels()[1]))
    columns = 2 if 2 * (5.8 * longest + 38) < 0.85 * 72 * figure.get_figwidth() else 1
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2, handlelength=2.4, columnspacing=1.4)


def with_ids(content: str, prefix: str) -> Markup:
    """A drawing as it stands in the page: its ids begin with ``prefix``, so that no two of a page are the same."""
    return Markup(re.sub(r'(id="|href="#|url\(#)_', rf"\g<1>{prefix}-", content))


def _defaults() -> dict[str, Any]:
    kept = ("backend", "interactive", "toolbar", "timezone", "datapath", "webagg", "tk.", "macosx", "docstring", "date.", "savefig.dir")
    return {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(kept)}


def _inline(svg: str) -> str:
    """What stands between the tags of a drawing, without what a page has itself: styles, metadata, ids that nothing refers to."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", body, flags=re.DOTALL)
    used = list(dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', body)))
    short = {name: f"_{number}" for number, name in enumerate(used)}
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{short[found[1]]}"' if found[1] in short else "", body)
    body = re.sub(r'(href="#|url\(#)([^")]+)', lambda found: found[1] + short[found[2]], body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"-?\d+\.\d{2,}", _rounded, tag[0]), body)
    return re.sub(r"\n\s*", "\n", body).strip()


def _rounded(found: re.Match[str]) -> str:
    """Coordinates to a tenth of a pixel: smaller, and the same on every machine."""
    return f"{round(float(found[0]), 1) + 0.0:g}"
