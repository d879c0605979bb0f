"""What is missing, all runs, and how to go on with the comparison."""

from __future__ import annotations

import shlex

from holdfast.compare.record import Failure, RunRow
from holdfast.report.blocks import Block, Cell, Command, Section, Table, Text
from holdfast.report.compared import Compared
from holdfast.report.numbers import accuracy_interval
from holdfast.wording import duration, percent

__all__ = ["failures", "repeat", "runs"]

LISTED = 2000


def failures(compared: Compared) -> Section | None:
    """What differs between runs, and runs that are not there; None where there is nothing to say."""
    comparison = compared.comparison
    if not comparison.notes and not comparison.failures:
        return None
    blocks: list[Block] = [Text(sentence) for sentence in comparison.notes]
    if comparison.failures:
        columns = ("method", "data", "seed", "data seed", "trial", "why")
        blocks.append(Table("Runs that are not there", columns, [_failure(row) for row in comparison.failures], text_columns=(1, 4, 5)))
    return Section("failures", "What to know of the runs", "What keeps the runs from being alike, and those that are missing.", "", blocks)


def _failure(row: Failure) -> list[Cell | str]:
    trial = f"{row.trial} (tuning)" if row.tuning else row.trial
    return [row.method, row.data, str(row.seed), str(row.data_seed), trial, row.error or "not finished yet"]


def runs(compared: Compared) -> Section | None:
    """Every run on a line; None where there is none."""
    found = compared.comparison.runs
    if not found:
        return None
    columns = ("run", "method", "data", "model", "share", "seed", "data seed", "trial", "test accuracy", "validation", "time")
    rows = [_run(row) for row in found[:LISTED]]
    folded = f"All {len(found)} runs" if len(found) <= LISTED else f"The first {LISTED} of {len(found)} runs; all are in comparison.csv"
    table = Table("One line a run; each directory can be reported by itself", columns, rows, text_columns=(1, 2, 3, 7), folded=folded)
    return Section(
        "runs", "All runs", "Each is an ordinary run directory, which can be audited, reported and used to predict.", "", [table]
    )


def _run(row: RunRow) -> list[Cell | str]:
    test, val = row.metrics.test, row.metrics.val
    return [
        *(row.run, row.method, row.data, row.model, percent(row.fraction, 0), str(row.seed), str(row.data_seed)),
        f"{row.trial} (tuning)" if row.tuning else row.trial,
        accuracy_interval(test.accuracy, test.accuracy_ci95) if test else "-",
        percent(val.accuracy) if val else "-",
        "-" if row.cost.seconds_total is None else duration(row.cost.seconds_total),
    ]


def repeat(compared: Compared) -> Section | None:
    """The command that goes on with the comparison; None where what was asked is not there."""
    file = compared.path / "comparison.yaml"
    if not file.is_file():
        return None
    command = f"holdfast compare --config {shlex.quote(str(file))} --out {shlex.quote(str(compared.path))}"
    return Section(
        "repeat",
        "How to go on with it",
        "This makes what is missing and keeps every finished run; with more seeds in the file it adds those runs and no others.",
        "",
        [Command(command)],
    )
