"""Finished run directories as rows of the record: what each reached, by which selection, and what it took. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from holdfast.compare.cells import Cell, Outcome, Setting
from holdfast.compare.record import CostRow, Failure, Metrics, RunRow, Selection
from holdfast.errors import DataError, RunError
from holdfast.run import Run, SplitMetrics, validate_result
from holdfast.run.storage import CONFIG

__all__ = ["collect", "run_path"]

ValLabels: TypeAlias = dict[tuple[Setting, int], str]


def run_path(cell: Cell) -> str:
    """The run directory of a cell below that of the comparison."""
    return f"runs/{cell.key}"


def collect(cells: Sequence[Cell], folder: Path, outcomes: Sequence[Outcome] = ()) -> tuple[list[RunRow], list[Failure], list[str]]:
    """Finished runs, those that are not there, and what keeps the runs from being alike.

    Args:
        cells: All planned runs.
        folder: The comparison's directory.
        outcomes: How cells ended.

    Raises:
        RunError: A run is damaged, or results have different schemas.
        DataError: A run has no test accuracy, or runs of one setting were tested on different numbers of examples.
    """
    errors = {outcome.cell.key: outcome.error for outcome in outcomes}
    found: list[tuple[Cell, Run, dict[str, Any]]] = []
    failures = []
    for cell in cells:
        run = _finished(folder / run_path(cell))
        if run is None:
            failures.append(_failure(cell, errors.get(cell.key)))
        else:
            found.append((cell, run, run.result))
    _check_schemas(found)
    known: ValLabels = {}
    rows = [_row(cell, run, result, known) for cell, run, result in found]
    return rows, failures, list(_notes_on_data([(cell, result) for cell, _, result in found if not cell.tuning]))


def _finished(path: Path) -> Run | None:
    """The run at a path, None where there is none or it has not ended."""
    if not (path / CONFIG).is_file():
        return None
    run = Run.open(path)
    return run if run.finished else None


def _failure(cell: Cell, error: str | None) -> Failure:
    return Failure(cell.method, *_place(cell), cell.seed, cell.data_seed, cell.trial, cell.tuning, run_path(cell), error)


def _place(cell: Cell) -> tuple[str, str, float | None]:
    return cell.setting.data, cell.setting.model, cell.setting.fraction


def _check_schemas(found: Sequence[tuple[Cell, Run, Mapping[str, Any]]]) -> None:
    """All results have the schema that is read here; several schemas side by side are said to be that."""
    by_schema: dict[str, Cell] = {}
    for cell, _, result in found:
        by_schema.setdefault(repr(result.get("schema")), cell)
    if len(by_schema) > 1:
        named = " and ".join(f"{schema} in {run_path(cell)}" for schema, cell in by_schema.items())
        raise RunError(
            f"the runs have results of different schemas, {named}: they were written by different holdfasts and are not compared; "
            "delete the runs of one of them, and repeat the command to make them again"
        )
    for cell, _, result in found:
        try:
            validate_result(result)
        except RunError as error:
            raise RunError(f"{run_path(cell)}: {error}") from error


def _row(cell: Cell, run: Run, result: Mapping[str, Any], known: ValLabels) -> RunRow:
    test, val = (_metrics(result[split]) for split in ("test", "val"))
    if test is None:
        raise DataError(
            f"{run_path(cell)} ({cell.method}) has no test split, and methods are compared on test examples: give data with one, or type "
            "--test-split val to test on another"
        )
    selections = tuple(map(_selection, result["selections"]))
    names = ("device", "steps", "seconds_per_step", "seconds_total", "peak_memory_mib")
    cost = CostRow(**{name: result["cost"][name] for name in names}, extra_data=tuple(_extra_data(cell, run, result, known)))
    place = (*_place(cell), cell.seed, cell.data_seed, cell.trial, cell.tuning, run_path(cell))
    return RunRow(cell.method, *place, Metrics(test, val, selections), cost)


def _metrics(values: Mapping[str, Any] | None) -> SplitMetrics | None:
    return None if values is None else SplitMetrics.from_dict(values)


def _selection(entry: Mapping[str, Any]) -> Selection:
    val, test = (entry[split]["accuracy"] if entry[split] else None for split in ("val", "test"))
    return Selection(entry["by"], entry["epoch"], entry["weights"], entry["by"] == "best-by-test", val, test)


def _extra_data(cell: Cell, run: Run, result: Mapping[str, Any], known: ValLabels) -> Iterator[str]:
    """What the run used beside the training split: others may not have it, and who has it could train on it."""
    source = run.config.get("source_data")
    if source:
        yield f"source data {source}"
    chosen_by_val = result["selections"][0]["by"].startswith("val") or run.config.get("patience") is not None
    if chosen_by_val and result["val"] is not None and _val_labels(cell, run, known) == "clean":
        yield "clean labels of validation"


def _val_labels(cell: Cell, run: Run, known: ValLabels) -> str:
    """What ``splits.json`` says of the labels of validation; read once for each draw of the data, for it may be long."""
    draw = (cell.setting, cell.data_seed)
    if draw not in known:
        known[draw] = str(run.splits.get("val_labels")) if run.has("splits.json") else ""
    return known[draw]


def _notes_on_data(found: Sequence[tuple[Cell, Mapping[str, Any]]]) -> Iterator[str]:
    """What differs between runs that should differ by their method alone.

    Raises:
        DataError: Runs of one setting and data seed were tested on different numbers of examples, so that they are no pair.
    """
    first: dict[tuple[Any, ...], tuple[Cell, Mapping[str, Any]]] = {}
    said: set[tuple[str, str, Any]] = set()
    for cell, result in found:
        other, known = first.setdefault((cell.setting, cell.data_seed), (cell, result))
        if result["test"]["n"] != known["test"]["n"]:
            raise DataError(
                f"{run_path(cell)} ({cell.method}) was tested on {result['test']['n']} examples and {run_path(other)} ({other.method}) on "
                f"{known['test']['n']}, though they have the same data and data seed: they are no pair"
            )
        for section, key, words in _ALIKE:
            differ = result[section][key] != known[section][key]
            if differ and (cell.method, key, cell.setting) not in said:
                said.add((cell.method, key, cell.setting))
                yield f"{cell.method} and {other.method} on {cell.setting.data}: {words}"
    devices = {result["cost"]["device"] for _, result in found}
    if len(devices) > 1:
        yield f"The runs were made on different devices ({', '.join(sorted(map(str, devices)))}): do not compare their times."


_ALIKE = (
    ("data", "fingerprint", "their training data or labels are not the same, which only a method that changes labels explains."),
    (
        "model",
        "reference_fingerprint",
        "they started from different pretrained weights, so their difference is not that of the methods alone.",
    ),
)
