"""What ``holdfast fit`` ends with: the result, what it cost, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from holdfast.catalog import reads_texts
from holdfast.cli.label_summary import label_lines
from holdfast.cli.terminal import out
from holdfast.wording import decimal, duration, percent

if TYPE_CHECKING:
    from holdfast.run import Run

__all__ = ["print_summary"]

COLUMNS = ("split", "n", "accuracy (95 % interval)", "macro-F1", "NLL", "ECE")


def print_summary(run: Run) -> None:
    """Print the table of a finished run."""
    result = run.result
    out.print()
    out.print(_table(result), soft_wrap=True)
    for line in (*_training(result), *label_lines(run), _cost(result["cost"], "texts" if _reads_texts(run) else "images"), _next(run)):
        out.print(Text(line), soft_wrap=True)


def _reads_texts(run: Run) -> bool:
    return reads_texts(str(run.config.get("model")))


def _next(run: Run) -> str:
    example = "texts.txt" if _reads_texts(run) else "image.jpg"
    folder = shlex.quote(str(run.path))
    return f"Next: holdfast audit {folder}, or holdfast predict {folder} {example}"


def _table(result: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for position, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    for split in ("train", "val", "test"):
        if result[split] is not None:
            table.add_row(split, *_cells(result[split]))
    return table


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    return [str(metrics["n"]), _accuracy(metrics), *(decimal(metrics[key]) for key in ("macro_f1", "nll", "ece"))]


def _accuracy(metrics: Mapping[str, Any]) -> str:
    if not metrics["accuracy_ci95"]:
        return percent(metrics["accuracy"])
    low, high = metrics["accuracy_ci95"]
    return f"{percent(metrics['accuracy'])} ({100 * low:.1f} to {100 * high:.1f})"


def _training(result: Mapping[str, Any]) -> list[str]:
    """Which weights these are, how they compare with those that were not averaged, or were, and where training ended."""
    return [
        line
        for line in (_stop(result), _probe(result) or _selection(result), _other_form(result), _by_test(result), _skipped(result))
        if line
    ]


def _probe(result: Mapping[str, Any]) -> str:
    """How the head of a linear probe was found."""
    probe = (result.get("training") or {}).get("probe")
    if probe is None:
        return ""
    tried = f", the best of {len(probe['tried'])} by its loss on held-out examples" if probe["tried"] else ""
    return f"The head alone, solved on features of the pretrained network with the L2 penalty {probe['l2']:.2g}{tried}."


def _selection(result: Mapping[str, Any]) -> str:
    chosen = result["selections"][0]
    form = "Averaged weights" if chosen["weights"] == "ema" else "Weights"
    by = "the last one" if chosen["by"] == "last" else f"selected by {chosen['by']}"
    tested = "" if result["test"] is not None else "; there is no test split, so nothing above was held out for the end"
    return f"{form} of epoch {chosen['epoch']}, {by}{tested}."


def _by_test(result: Mapping[str, Any]) -> str:
    """What ``--track test`` found, and what it is worth."""
    found = [
        entry for entry in result["selections"] if entry["by"] == "best-by-test" and entry["weights"] == result["selections"][0]["weights"]
    ]
    if not found or found[0]["test"] is None:
        return ""
    return (
        f"The test split was open during training: its best epoch, {found[0]['epoch']}, reached {_accuracy(found[0]['test'])}, "
        "an optimistic number."
    )


def _other_form(result: Mapping[str, Any]) -> str:
    """The weights that the same criterion would have chosen among the other form, in one line."""
    chosen, *others = result["selections"]
    for other in others:
        if other["by"] == chosen["by"] and other["weights"] != chosen["weights"]:
            form = "with averaging" if other["weights"] == "ema" else "without averaging"
            found = [f"{split} {_accuracy(other[split])}" for split in ("val", "test") if other[split] is not None]
            return f"For comparison, {form} (epoch {other['epoch']}): {', '.join(found)}." if found else ""
    return ""


def _stop(result: Mapping[str, Any]) -> str:
    training = result.get("training") or {}
    if not training.get("stopped_early"):
        return ""
    best = result["selections"][0]
    return (
        f"Stopped early, after epoch {training['epochs']} of {training['planned_epochs']}: "
        f"{best['by']} had not become better since epoch {best['epoch']}."
    )


def _skipped(result: Mapping[str, Any]) -> str:
    skipped = (result.get("training") or {}).get("skipped_updates")
    return f"{skipped} of {result['cost']['steps']} updates were skipped while fp16 looked for its loss scale." if skipped else ""


def _cost(cost: Mapping[str, Any], examples: str) -> str:
    parts = [f"{duration(cost['seconds_total'])} on {cost['device']}"] if cost["seconds_total"] is not None else []
    if cost["seconds_per_step"] is not None:
        parts.append(f"{1000 * cost['seconds_per_step']:.0f} ms a step")
    if cost["images_per_second"] is not None:
        parts.append(f"{cost['images_per_second']:.0f} {examples} a second")
    if cost["peak_memory_mib"] is not None:
        parts.append(f"peak memory {cost['peak_memory_mib']:.0f} MiB")
    return f"Cost: {', '.join(parts)}."
