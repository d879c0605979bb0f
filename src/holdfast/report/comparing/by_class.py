"""Which classes gain and which lose against the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from holdfast.report.blocks import Block, Cell, Figures, Plot, Section, Table
from holdfast.report.compared import Seeds, SettingView
from holdfast.report.comparing.looks import color, points
from holdfast.report.numbers import integer
from holdfast.report.scores import Scores
from holdfast.report.svg import INK, draw, label
from holdfast.wording import percent

__all__ = ["by_class", "class_differences"]

SHOWN, LISTED = 20, 1000


def by_class(view: SettingView) -> Section | None:
    """Differences by class; None where predictions of the baseline, or of all others, are not there."""
    base = view.scores.get(view.baseline, {})
    others = {row.name: view.scores[row.name] for row in view.methods if row.name != view.baseline}
    found = {name: differences for name, scores in others.items() if (differences := class_differences(scores, base)) is not None}
    if not found:
        return None
    order = _widest_first(found)
    own, counts = _mean([_accuracies(scores) for scores in base.values()]), np.array([_sizes(scores) for scores in base.values()])
    table = [_row(_name(view, at), counts[:, at], own[at], [column[at] for column in found.values()]) for at in order[:LISTED]]
    columns = ("class", "test examples", f"{view.baseline}", *found)
    blocks: list[Block] = [Figures([_plot(view, found)])]
    caption = f"Accuracy of {view.baseline}, and how many points others have more: a mean over seeds"
    if len(order) > SHOWN:
        blocks.append(Table(f"{caption}; the {SHOWN} classes where methods differ most", columns, table[:SHOWN]))
        blocks.append(Table(caption, columns, table, folded=f"{len(table)} of {len(order)} classes"))
    else:
        blocks.append(Table(caption, columns, table))
    return Section(
        "by-class",
        "Which classes gain or lose",
        f"The mean over seeds of the accuracy of each class less that of {view.baseline} with the same seeds. Two methods of equal "
        "accuracy may be good at different classes.",
        "A class has few test examples, so most of this is luck: no test is made here, and the classes that differ most are picked among "
        "many, which makes them look more different than they are.",
        blocks,
    )


def class_differences(mine: Mapping[Seeds, Scores], base: Mapping[Seeds, Scores]) -> NDArray[np.float64] | None:
    """Mean over common cells of the accuracy of each class (K,) less that of the baseline; NaN for a class without test examples.

    None where no cell has both, or their classes are not as many.
    """
    cells = sorted(mine.keys() & base.keys())
    if not cells or len({scores.classes for seeds in cells for scores in (mine[seeds], base[seeds])}) != 1:
        return None
    return _mean([_accuracies(mine[seeds]) - _accuracies(base[seeds]) for seeds in cells])


def _accuracies(scores: Scores) -> NDArray[np.float64]:
    """Accuracy of each class (K,), NaN where it has no examples."""
    right, n = np.array(scores.by_class(), dtype=np.float64).T
    return np.divide(right, n, out=np.full(len(n), np.nan), where=n > 0)


def _mean(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over rows of what is known, NaN where nothing is."""
    table = np.stack(rows)
    count = np.isfinite(table).sum(axis=0)
    return np.divide(np.nansum(table, axis=0), count, out=np.full(table.shape[1], np.nan), where=count > 0)


def _widest_first(found: Mapping[str, NDArray[np.float64]]) -> list[int]:
    """Classes by their largest difference, those without examples left out."""
    table = np.stack(list(found.values()))
    largest = np.abs(np.nan_to_num(table)).max(axis=0)
    order = np.argsort(-largest, kind="stable")
    return [at for at in order.tolist() if np.isfinite(table[:, at]).any()]


def _name(view: SettingView, at: int) -> str:
    return view.classes[at] if at < len(view.classes) else f"class {at}"


def _sizes(scores: Scores) -> list[int]:
    """Test examples of each class."""
    return [n for _, n in scores.by_class()]


def _row(name: str, sizes: NDArray[np.int64], own: float, differences: Sequence[float]) -> list[Cell | str]:
    low, high = int(sizes.min()), int(sizes.max())
    shown = integer(low) if low == high else f"{low} to {high}"
    own_text = "-" if np.isnan(own) else percent(float(own))
    return [name, shown, own_text, *(points(None if np.isnan(value) else float(value)) for value in differences)]


def _plot(view: SettingView, found: Mapping[str, NDArray[np.float64]]) -> Plot:
    """A line a method, a mark a class."""
    places = {row.name: place for place, row in enumerate(view.methods)}

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        for line, (name, values) in enumerate(found.items()):
            known = 100 * values[np.isfinite(values)]
            axes.plot(known, [line] * len(known), "|", color=color(places[name]), markersize=13, markeredgewidth=1.4, alpha=0.75)
        axes.set_yticks(range(len(found)), [label(name) for name in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel(label(f"points above {view.baseline}, one mark a class", 50))
        axes.grid(visible=False, axis="y")

    told = "; ".join(
        f"{name} from {points(float(np.nanmin(values)))} to {points(float(np.nanmax(values)))}" for name, values in found.items()
    )
    return draw("Differences by class", f"Strip plot of differences in points by class: {told}.", paint, (6.4, 0.9 + 0.34 * len(found)))
