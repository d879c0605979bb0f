"""What each method takes for what it reaches: time, memory, other data, and the runs of its search."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from holdfast.compare.record import MethodRow
from holdfast.report.blocks import Block, Cell, Figures, Plot, Section, Table
from holdfast.report.compared import SettingView
from holdfast.report.comparing.looks import color, legend, marker
from holdfast.report.numbers import amount, integer
from holdfast.report.svg import WIDE, draw
from holdfast.wording import decimal, duration, percent

__all__ = ["costs"]


def costs(view: SettingView) -> Section:
    """Accuracy against time, and the table of costs."""
    base = next((row for row in view.methods if row.name == view.baseline), None)
    columns = (
        "method",
        "ms a step",
        f"times {view.baseline}",
        "time of a run",
        "peak memory",
        "other data used",
        "runs of its search",
        "time of it",
    )
    rows = [_row(row, base) for row in view.methods]
    known = [row for row in view.methods if row.mean is not None and row.seconds_per_step]
    blocks: list[Block] = []
    if known:
        blocks += [Figures([_plot(view)]), legend([row.name for row in view.methods])]
    blocks.append(Table("Cost: means over runs, the peak memory being the largest", columns, rows, text_columns=(5,)))
    return Section(
        "costs",
        "Accuracy against cost",
        "Up and to the left is better: more accuracy in less time a step. A method that uses data the others do not have, such as source "
        "data, has more than time as its price.",
        "Times are wall-clock, and runs that share a machine slow each other down: compare them only where they were made in the same way. "
        "Peak memory on a CPU is that of the whole process.",
        blocks,
    )


def _row(row: MethodRow, base: MethodRow | None) -> list[Cell | str]:
    ratio = row.seconds_per_step / base.seconds_per_step if base and base.seconds_per_step and row.seconds_per_step else None
    return [
        row.name,
        amount(None if row.seconds_per_step is None else 1000 * row.seconds_per_step),
        decimal(ratio, 2),
        "-" if row.seconds_total is None else duration(row.seconds_total),
        "-" if row.peak_memory_mib is None else f"{integer(row.peak_memory_mib)} MiB",
        ", ".join(row.extra_data) or "none",
        str(row.tuning_runs),
        duration(row.tuning_seconds) if row.tuning_runs else "-",
    ]


def _plot(view: SettingView) -> Plot:
    def paint(axes: Axes) -> None:
        for place, row in enumerate(view.methods):
            if row.mean is None or not row.seconds_per_step:
                continue
            x = 1000 * row.seconds_per_step
            if row.ci95 is not None:
                axes.plot([x, x], row.ci95, color=color(place), linewidth=1.6)
            axes.plot([x], [row.mean], marker(place), color=color(place), markersize=7, markeredgecolor="white", markeredgewidth=0.8)
        axes.set_xlabel("milliseconds a step")
        axes.set_xlim(left=0)
        axes.set_ylabel("test accuracy")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))

    parts = [
        f"{row.name} {percent(row.mean)} at {amount(1000 * row.seconds_per_step)} ms"
        for row in view.methods
        if row.mean is not None and row.seconds_per_step
    ]
    return draw("Accuracy against time a step", f"Scatter plot of test accuracy against time: {'; '.join(parts)}.", paint, WIDE)
