"""How training went, method by method: means over the runs of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from holdfast.report.blocks import Figures, LegendEntry, Plot, Section
from holdfast.report.blocks import Legend as LegendBlock
from holdfast.report.compared import SettingView
from holdfast.report.comparing.looks import color, dashes
from holdfast.report.reading import number
from holdfast.report.svg import NARROW, draw
from holdfast.wording import percent, significant

__all__ = ["curves", "mean_curve"]

SHOWN = (
    ("val_accuracy", "Validation accuracy by epoch", "accuracy", True),
    ("train_accuracy", "Training accuracy by epoch", "accuracy", True),
    ("val_loss", "Validation loss by epoch", "loss in nats", False),
)
"""Columns of ``history.csv`` that mean the same for all methods; the whole training loss does not, for its terms differ."""


def curves(view: SettingView) -> Section | None:
    """Learning curves; None where no run directory has a history."""
    plots = [plot for column in SHOWN if (plot := _plot(view, *column)) is not None]
    if not plots:
        return None
    entries = [LegendEntry(row.name, color(place), dashes(place)[1]) for place, row in enumerate(view.methods)]
    return Section(
        "curves",
        "Learning curves",
        "Means over the runs of each method, over the epochs that all of them have. A method that is still rising at the end would gain "
        "from more epochs; one that falls after a peak forgets what early stopping would have kept.",
        "Training numbers are means over an epoch in which the weights still change, on augmented images. A mean hides that single runs "
        "jump: differences between curves count only where the verdict says so.",
        [Figures(plots), LegendBlock(entries)],
    )


def mean_curve(histories: Sequence[Sequence[Mapping[str, Any]]], column: str) -> list[tuple[int, float]]:
    """The mean of a column by epoch, over the epochs at which every history has it.

    Example:
        >>> mean_curve([[{"epoch": 1, "a": 1.0}, {"epoch": 2, "a": 2.0}], [{"epoch": 1, "a": 3.0}]], "a")
        [(1, 2.0)]
    """
    found = [_column(history, column) for history in histories]
    if not found:
        return []
    epochs = sorted(set.intersection(*(set(values) for values in found)))
    return [(epoch, sum(values[epoch] for values in found) / len(found)) for epoch in epochs]


def _column(history: Sequence[Mapping[str, Any]], column: str) -> dict[int, float]:
    pairs = [(number(row.get("epoch")), number(row.get(column))) for row in history]
    return {round(epoch): value for epoch, value in pairs if epoch is not None and value is not None}


def _plot(view: SettingView, column: str, title: str, unit: str, shares: bool) -> Plot | None:
    found = {row.name: mean_curve(view.histories[row.name], column) for row in view.methods}
    if not any(found.values()):
        return None

    def paint(axes: Axes) -> None:
        for place, points in enumerate(found.values()):
            if points:
                style, sign = dashes(place)[0], "o" if len(points) == 1 else ""
                axes.plot(*zip(*points, strict=True), color=color(place), linestyle=style, marker=sign, linewidth=1.5)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if shares:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))

    words = percent if shares else significant
    told = "; ".join(f"{name} ends at {words(points[-1][1])} in epoch {points[-1][0]}" for name, points in found.items() if points)
    return draw(title, f"Line chart, {title[:1].lower()}{title[1:]}: {told}.", paint, NARROW)
