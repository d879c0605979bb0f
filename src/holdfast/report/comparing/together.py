"""All settings of a comparison together: mean ranks, wins and losses, and Wilcoxon's test over datasets."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from holdfast.compare.record import Overall, OverallPair
from holdfast.report.blocks import Block, Cell, Figures, Plot, Section, Table, Text
from holdfast.report.compared import Compared
from holdfast.report.comparing.looks import color, marker, p_value, points
from holdfast.report.svg import GREY, draw, label
from holdfast.wording import percent

__all__ = ["together"]


def together(compared: Compared) -> Section | None:
    """What several settings show; None for a single one."""
    overall = compared.comparison.overall
    if overall is None:
        return None
    blocks: list[Block] = [_means(compared, overall)]
    if overall.n:
        blocks += [Figures([_plot(overall)]), Text(_ranks(overall))]
    blocks.append(_pairs(overall.pairs))
    notes = list(dict.fromkeys(row.note for row in overall.pairs if row.note))
    blocks += [Text(note) for note in notes]
    return Section(
        "together",
        "All settings together",
        f"{len(compared.comparison.settings)} settings on {overall.n_datasets} {'dataset' if overall.n_datasets == 1 else 'datasets'}. "
        "Ranks, wins and losses are over settings. Wilcoxon's signed-rank test is over datasets, the settings of each averaged, and made "
        "for six or more of them only.",
        "Ranks say how often a method is ahead, not by how much. The datasets were chosen, not drawn: what holds over them may hold for "
        "others like them.",
        blocks,
    )


def _means(compared: Compared, overall: Overall) -> Table:
    means = {(row.setting, row.name): row.mean for row in compared.comparison.methods}
    names = [row.name for row in overall.methods]
    rows = [[view.name, *(percent(means.get((view.place, name))) for name in names)] for view in compared.settings]
    rows.append(["mean rank", *("-" if row.rank is None else f"{row.rank:.2f}" for row in overall.methods)])
    return Table("Mean test accuracy by setting", ("setting", *names), rows)


def _ranks(overall: Overall) -> str:
    sentence = f"Mean ranks are over the {overall.n} {'setting' if overall.n == 1 else 'settings'} that all methods have."
    if overall.critical_difference is not None:
        sentence += f" By Nemenyi's test two of them differ where they are {overall.critical_difference:.2f} apart or more."
    if overall.friedman_p is not None:
        sentence += f" Friedman's test that all rank alike has p {p_value(overall.friedman_p)}."
    return sentence


def _pairs(pairs: Sequence[OverallPair]) -> Table:
    columns = (
        *("method", "against", "settings: wins, ties, losses", "verdicts: better, worse", "datasets", "points, mean over them"),
        *("p (Wilcoxon, Holm)", "verdict over datasets"),
    )
    rows: list[list[Cell | str]] = [
        [
            *(row.a, row.b, f"{row.wins}, {row.ties}, {row.losses}", f"{row.better}, {row.worse}", str(row.n_datasets)),
            *(points(row.difference), p_value(row.p_holm).removeprefix("= "), "-" if row.p is None else row.verdict),
        ]
        for row in pairs
    ]
    return Table("Pairs over settings", columns, rows, text_columns=(1, 7))


def _plot(overall: Overall) -> Plot:
    """Mean ranks on a line each, with half of the critical difference to either side."""
    rows = [(place, row) for place, row in enumerate(overall.methods) if row.rank is not None]
    ordered = sorted(rows, key=lambda entry: entry[1].rank or 0.0)
    half = (overall.critical_difference or 0.0) / 2

    def paint(axes: Axes) -> None:
        for line, (place, row) in enumerate(ordered):
            rank = row.rank or 0.0
            if half:
                axes.plot([rank - half, rank + half], [line, line], color=GREY, linewidth=2)
            axes.plot([rank], [line], marker(place), color=color(place), markersize=7)
        axes.set_yticks(range(len(ordered)), [label(row.name) for _, row in ordered])
        axes.set_ylim(len(ordered) - 0.5, -0.5)
        axes.set_xlabel("mean rank, 1 is best")
        axes.grid(visible=False, axis="y")

    told = "; ".join(f"{row.name} {row.rank:.2f}" for _, row in ordered)
    title = "Mean ranks; lines that do not overlap are a critical difference apart" if half else "Mean ranks"
    return draw(title, f"Dot plot of mean ranks: {told}.", paint, (6.4, 0.9 + 0.34 * len(ordered)))
