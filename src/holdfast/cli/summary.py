"""What ``holdfast fit`` ends with: the result, what it cost, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from holdfast.cli.terminal import out
from holdfast.cli.wording import decimal, duration, percent

if TYPE_CHECKING:
    from holdfast.run import Run

__all__ = ["print_summary"]

COLUMNS = ("split", "n", "accuracy (95 % interval)", "macro-F1", "NLL", "ECE")


def print_summary(run: Run) -> None:
    """Print the table of a finished run."""
    result = run.result
    out.print()
    out.print(_table(result), soft_wrap=True)
    for line in (_selection(result), _cost(result["cost"]), f"Next: holdfast predict {shlex.quote(str(run.path))} image.jpg"):
        out.print(Text(line), soft_wrap=True)


def _table(result: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for position, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for split in ("train", "val", "test"):
        if result[split] is not None:
            table.add_row(split, *_cells(result[split]))
    return table


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    accuracy = percent(metrics["accuracy"])
    if metrics["accuracy_ci95"]:
        low, high = metrics["accuracy_ci95"]
        accuracy += f" ({100 * low:.1f} to {100 * high:.1f})"
    return [str(metrics["n"]), accuracy, *(decimal(metrics[key]) for key in ("macro_f1", "nll", "ece"))]


def _selection(result: Mapping[str, Any]) -> str:
    chosen = result["selections"][0]
    by = "the last one" if chosen["by"] == "last" else f"selected by {chosen['by']}"
    tested = "" if result["test"] is not None else "; there is no test split, so nothing above was held out for the end"
    return f"Weights of epoch {chosen['epoch']}, {by}{tested}."


def _cost(cost: Mapping[str, Any]) -> str:
    parts = [f"{duration(cost['seconds_total'])} on {cost['device']}"] if cost["seconds_total"] is not None else []
    if cost["seconds_per_step"] is not None:
        parts.append(f"{1000 * cost['seconds_per_step']:.0f} ms a step")
    if cost["images_per_second"] is not None:
        parts.append(f"{cost['images_per_second']:.0f} images a second")
    if cost["peak_memory_mib"] is not None:
        parts.append(f"peak memory {cost['peak_memory_mib']:.0f} MiB")
    return f"Cost: {', '.join(parts)}."
