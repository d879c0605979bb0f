"""What was compared and what it shows: the table, accuracies with intervals, differences with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from holdfast.compare.record import Interval, MethodRow, PairRow
from holdfast.report.blocks import Block, Cell, Figures, Highlight, Legend, LegendEntry, Plot, Points, Section, Table, Text
from holdfast.report.compared import Seeds, SettingView
from holdfast.report.comparing.looks import VERDICTS, color, interval_of_points, marker, p_value, points
from holdfast.report.numbers import accuracy_interval
from holdfast.report.svg import GREY, INK, draw, label
from holdfast.wording import percent

__all__ = ["highlights", "verdicts"]

WIDTH = 6.4
"""Inches of a figure with a line for each method."""


def highlights(view: SettingView) -> list[Highlight]:
    """What is seen first."""
    base, pairs = view.baseline, list(view.against.values())
    found = [_claimed(word, base, pairs) for word in ("better", "worse") if pairs]
    cells = [row.n for row in view.methods]
    if not cells:
        return found
    runs = str(cells[0]) if len(set(cells)) == 1 else f"{min(cells)} to {max(cells)}"
    return [*found, Highlight("Runs a method", runs, f"{len(cells)} methods, paired by seed")]


def _claimed(word: str, base: str, pairs: Sequence[PairRow]) -> Highlight:
    names = [row.a for row in pairs if row.verdict == word]
    value = f"{len(names)} of {len(pairs)}"
    return Highlight(f"Shown to be {word} than {base}", value, ", ".join(names) or "nothing shown by these runs")


def verdicts(view: SettingView) -> Section:
    """Which methods differ from the baseline, and by how much."""
    blocks: list[Block] = [_methods(view)]
    notes = view.compared.comparison.pair_notes(view.place)
    if notes:
        blocks.append(Points("What to know of single pairs", notes))
    figures = [_accuracies(view), *([_differences(view)] if any(row.ci95 for row in view.pairs) else [])]
    blocks += [Figures(figures), _legend()]
    if view.compared.comparison.every_pair:
        blocks.append(_pairs(view.pairs))
    blocks += _ranks(view)
    return Section(
        "verdicts",
        "What the runs show",
        "Test accuracy of the weights that each run selected for itself, as a mean over runs with different seeds. A method is called "
        f"better or worse than {view.baseline} only where the paired t test over seeds says so after Holm's correction for the number of "
        "pairs, so that the chance of any such claim between equal methods is 5 % at most.",
        "'No difference shown' is not 'no difference': the interval says how large it may be. Intervals of single accuracies hold the "
        "luck of the seed, which paired runs share, so they may overlap where a difference is clear. All of it is about these data and "
        "these test examples; that others would give other numbers is not in the intervals.",
        blocks,
    )


def _methods(view: SettingView) -> Table:
    """One line a method."""
    low, high = _range([end for row in view.methods for end in row.ci95 or (row.mean,) if end is not None])
    columns = (
        *("method", "runs", "accuracy (95 % interval)", f"from {percent(low, 0)} to {percent(high, 0)}"),
        *(f"points above {view.baseline} (95 % interval)", "p (Holm)", "verdict", "wins, ties, losses", "mean rank"),
    )
    rows = [_method(row, view.against.get(row.name), low, high) for row in view.methods]
    return Table("Methods", columns, rows, text_columns=(6,))


def _method(row: MethodRow, pair: PairRow | None, low: float, high: float) -> list[Cell | str]:
    drawing: Cell | str = "-"
    if row.mean is not None and row.ci95 is not None:
        places = [min(1.0, max(0.0, (end - low) / (high - low))) for end in (row.ci95[0], row.mean, row.ci95[1])]
        drawing = Cell("", low=places[0], middle=places[1], high=places[2])
    compared: list[Cell | str] = ["-", "-", "-", "-"] if pair is None else [*_difference(pair), f"{pair.wins}, {pair.ties}, {pair.losses}"]
    rank = "-" if row.rank is None else f"{row.rank:.1f}"
    return [row.name, str(row.n), accuracy_interval(row.mean, row.ci95), drawing, *compared, rank]


def _difference(pair: PairRow) -> list[Cell | str]:
    flag = "these draws" if pair.for_these_draws else ""
    difference = points(pair.difference) + interval_of_points(pair.ci95)
    return [difference, p_value(pair.p_holm).removeprefix("= "), Cell(pair.verdict, flag) if flag else pair.verdict]


def _pairs(pairs: Sequence[PairRow]) -> Table:
    columns = ("method", "against", "points (95 % interval)", "p (Holm)", "verdict", "wins, ties, losses")
    rows: list[list[Cell | str]] = [[row.a, row.b, *_difference(row), f"{row.wins}, {row.ties}, {row.losses}"] for row in pairs]
    return Table("Every pair", columns, rows, text_columns=(1, 4), folded=f"All {len(pairs)} pairs")


def _ranks(view: SettingView) -> Iterator[Block]:
    """What the ranks over cells say, in a sentence."""
    row = view.compared.comparison.settings[view.place]
    if row.critical_difference is None:
        return
    friedman = "" if row.friedman_p is None else f" Friedman's test that all rank alike has p {p_value(row.friedman_p)}."
    yield Text(
        f"Mean ranks are over the {row.n} cells that all methods have; two of them differ by Nemenyi's test where they are "
        f"{row.critical_difference:.2f} apart or more.{friedman}"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Full tenths around values, for a drawing that they share."""
    if not values:
        return 0.0, 1.0
    low, high = math.floor(10 * max(0.0, min(values))), math.ceil(10 * min(1.0, max(values)))
    return min(low, 9) / 10, max(high, low + 1, 1) / 10 if low < 10 else 1.0


def _height(lines: int) -> float:
    return 0.9 + 0.34 * lines


def _accuracies(view: SettingView) -> Plot:
    """A line a method: its runs as dots, the mean with its interval."""
    rows = view.methods

    def paint(axes: Axes) -> None:
        for place, row in enumerate(rows):
            values = [run.accuracy for run in view.runs[row.name].values() if run.accuracy is not None]
            _dots(axes, place, values)
            _line(axes, place, row.mean, row.ci95, color=color(place), marker=marker(place))
        _lines(axes, [row.name for row in rows], "test accuracy")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))

    told = "; ".join(f"{row.name} {accuracy_interval(row.mean, row.ci95)}" for row in rows)
    return draw("Accuracy of each run, mean and 95 % interval", f"Dot plot of test accuracy: {told}.", paint, (WIDTH, _height(len(rows))))


def _differences(view: SettingView) -> Plot:
    """A line a pair: its cells as dots, the mean with both intervals, and zero."""
    rows = view.pairs
    several = view.compared.comparison.every_pair

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        for place, row in enumerate(rows):
            values = [100 * value for value in _cells(view, row)]
            _dots(axes, place, values)
            shade = VERDICTS[row.verdict]
            mean = None if row.difference is None else 100 * row.difference
            if row.ci_holm is not None:
                axes.plot([100 * end for end in row.ci_holm], [place, place], color=shade, linewidth=1)
            _line(axes, place, mean, None if row.ci95 is None else (100 * row.ci95[0], 100 * row.ci95[1]), color=shade, marker="D")
        _lines(axes, [f"{row.a} - {row.b}" if several else row.a for row in rows], "points" if several else f"points above {view.baseline}")

    told = "; ".join(f"{row.a} against {row.b} {points(row.difference)}{interval_of_points(row.ci95)}, {row.verdict}" for row in rows)
    title = "Paired differences over seeds" if several else f"Paired differences to {view.baseline} over seeds"
    return draw(title, f"Dot plot of differences in points: {told}.", paint, (WIDTH, _height(len(rows))))


def _cells(view: SettingView, row: PairRow) -> Iterator[float]:
    """The differences that a pair is made of."""
    mine, other = ({seeds: run.accuracy for seeds, run in view.runs[name].items()} for name in (row.a, row.b))
    for seeds in _common(mine, other):
        left, right = mine[seeds], other[seeds]
        if left is not None and right is not None:
            yield left - right


def _common(mine: dict[Seeds, float | None], other: dict[Seeds, float | None]) -> list[Seeds]:
    return sorted(mine.keys() & other.keys())


def _dots(axes: Axes, place: int, values: Sequence[float]) -> None:
    """Single values, a little below the line that sums them up."""
    axes.plot(values, [place + 0.26] * len(values), "o", color=GREY, markersize=3.2)


def _line(axes: Axes, place: int, mean: float | None, ends: Interval | None, *, color: str, marker: str) -> None:
    if ends is not None:
        axes.plot(ends, [place, place], color=color, linewidth=3, solid_capstyle="round")
    if mean is not None:
        axes.plot([mean], [place], marker, color=color, markersize=7, markeredgecolor="white", markeredgewidth=0.8)


def _lines(axes: Axes, names: Sequence[str], unit: str) -> None:
    """One name a line, the first on top."""
    axes.set_yticks(range(len(names)), [label(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(label(unit, 40))
    axes.grid(visible=False, axis="y")


def _legend() -> Legend:
    entries = [LegendEntry("one run, or the difference of two with the same seeds", GREY, "●")]
    entries += [LegendEntry(word, shade, "◆") for word, shade in VERDICTS.items()]
    return Legend([*entries, LegendEntry("thick: 95 % interval; thin: after Holm, excludes 0 where there is a verdict", INK, "—")])
