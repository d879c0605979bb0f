"""What averaging the weights of finished runs has given, as a table."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from holdfast.averaging.record import Averages, Group
from holdfast.averaging.words import COLUMNS, FOOTNOTE, words
from holdfast.cli.terminal import out, print_whole

__all__ = ["print_averages"]


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
        out.print(Text(f"{best} {FOOTNOTE}"), soft_wrap=True)


def _table(group: Group) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for row in group.averages:
        table.add_row(*map(Text, words(row)))
    return table
