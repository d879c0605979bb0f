"""What averaging the weights of finished runs has given, as a table."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from holdfast.averaging.record import AverageRow, Averages, Group
from holdfast.cli.terminal import out, print_whole
from holdfast.wording import percent

__all__ = ["print_averages"]

COLUMNS = ("average", "of", "test (95 % interval)", "best run", "mean run", "average less best run", "")


def print_averages(averages: Averages) -> None:
    """Print a table for each group: chosen on validation, test accuracies beside those of the runs, and whether it helped."""
    for group in averages.groups:
        where = f"{group.data}, {group.model}, data seed {group.data_seed}"
        out.print(Text(f"\nAverages of weights, chosen on validation: {where}", "bold"), soft_wrap=True)
        if group.note:
            out.print(Text(f"none: {group.note}"), soft_wrap=True)
            continue
        print_whole(_table(group))
        best = "No average was better than the best run on validation." if group.saved is None else f"The best on validation: {group.saved}"
        out.print(Text(best), soft_wrap=True)
    if any(group.averages for group in averages.groups):
        out.print(
            Text("Intervals are of each average alone; that one helped is said after Holm's correction over all of them."), soft_wrap=True
        )


def _table(group: Group) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, no_wrap=column != COLUMNS[1])
    for row in group.averages:
        table.add_row(*map(Text, _cells(row)))
    return table


def _cells(row: AverageRow) -> list[str]:
    tested = "–" if row.test is None else _with_ends(row.test["accuracy"], row.test["accuracy_ci95"])
    best = "–" if row.best.test is None else percent(row.best.test["accuracy"])
    difference = "–" if row.difference is None else f"{100 * row.difference:+.1f}"
    if row.ci95 is not None:
        difference += f" ({100 * row.ci95[0]:+.1f} to {100 * row.ci95[1]:+.1f})"
    mean = "–" if row.mean_test is None else percent(row.mean_test)
    return [_named(row), ", ".join(filter(None, row.methods)) or "runs", tested, best, mean, difference, row.outcome]


def _named(row: AverageRow) -> str:
    if row.kind == "wise-ft":
        start = " (the start)" if row.details["share"] == 0 else ""
        return f"wise-ft, share {row.details['share']:g}{start}"
    return f"{row.kind}, {len(row.members)} run{'s' if len(row.members) > 1 else ''}"


def _with_ends(value: float, ends: list[float]) -> str:
    return f"{percent(value)} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
