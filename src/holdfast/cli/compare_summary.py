"""What ``holdfast compare`` ends with: a table for each setting, what failed, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from holdfast.cli.compare_forecast import setting_words
from holdfast.cli.terminal import out, print_whole
from holdfast.compare.cells import Setting
from holdfast.wording import decimal, duration, percent

if TYPE_CHECKING:
    from holdfast.compare.record import Comparison, Failure, MethodRow, PairRow

__all__ = ["print_comparison"]


def print_comparison(comparison: Comparison, folder: str) -> None:
    """Print the tables of a comparison.

    Args:
        comparison: What the runs show.
        folder: Its directory, as the user typed it.
    """
    for place, setting in enumerate(comparison.settings):
        out.print()
        out.print(Text(setting_words(Setting(setting.data, setting.model, setting.fraction)), "bold"), soft_wrap=True)
        print_whole(_table(comparison, place))
        for note in comparison.pair_notes(place):
            out.print(Text(note), soft_wrap=True)
    out.print()
    for line in (*_intervals(comparison), *comparison.notes, *_failures(comparison), *_next(comparison, folder)):
        out.print(Text(line), soft_wrap=True)


def _table(comparison: Comparison, place: int) -> Table:
    against = comparison.baseline
    columns = ("method", "n", "test accuracy", f"minus {against}", "verdict", "s/step", "a run", "MiB")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position in (0, 4) else "right", no_wrap=True)
    pairs = {pair.a: pair for pair in comparison.pairs_of(place) if pair.b == against}
    for row in comparison.methods_of(place):
        table.add_row(*_cells(row, pairs.get(row.name)))
    return table


def _cells(row: MethodRow, pair: PairRow | None) -> Iterator[str]:
    yield row.name + (f" ({row.trial})" if row.trial else "")
    yield str(row.n)
    yield _with_interval(row.mean, row.ci95, sign="")
    yield "" if pair is None else _with_interval(pair.difference, pair.ci_holm, sign="+")
    yield "" if pair is None else pair.verdict
    yield decimal(row.seconds_per_step, 4)
    yield "-" if row.seconds_total is None else duration(row.seconds_total)
    yield "-" if row.peak_memory_mib is None else f"{row.peak_memory_mib:.0f}"


def _with_interval(mean: float | None, interval: tuple[float, float] | None, sign: str) -> str:
    if mean is None:
        return "-"
    shown = f"{100 * mean:+.1f}" if sign else percent(mean)
    return shown if interval is None else f"{shown} ({100 * interval[0]:{sign}.1f} to {100 * interval[1]:{sign}.1f})"


def _intervals(comparison: Comparison) -> Iterator[str]:
    if comparison.pairs:
        yield "Accuracy with its 95 % interval over seeds; differences in points, paired by seed, with intervals after Holm's correction."


def _failures(comparison: Comparison) -> Iterator[str]:
    for failure in comparison.failures:
        yield f"Failed: {_what(failure)}: {failure.error or 'not finished'}"


def _what(failure: Failure) -> str:
    trial = f" ({failure.trial})" if failure.trial else ""
    method = f"{'tuning ' if failure.tuning else ''}{failure.method}{trial}"
    return f"{method} on {failure.data}, seed {failure.seed}, data seed {failure.data_seed}"


def _next(comparison: Comparison, folder: str) -> Iterator[str]:
    page = Path(folder, "comparison.html")
    if page.is_file():
        yield f"Page: {page}"
    means = {row.name: row.mean for row in comparison.methods_of(0) if row.mean is not None} if comparison.settings else {}
    if means:
        best = max(means, key=means.__getitem__)
        run = next(run for run in comparison.runs_of(0) if run.method == best)
        yield f"Next: holdfast audit {shlex.quote(str(Path(folder, run.run)))}"
