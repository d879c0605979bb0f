"""The tables of the experiment on wrong labels: mean and standard deviation over seeds, and paired intervals against plain fine-tuning."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.noisy_cells import METHODS, Cell
from holdfast.demo import paired_interval

MEASURED = "measured.json"

CORRECTION = "forward"


class Numbers(NamedTuple):
    """What a run says; shares in percent.

    Args:
        selected: Test accuracy of the epoch that noisy validation chose: ``val-corrected`` where there is a matrix, else ``val-accuracy``.
        last: Test accuracy of the last epoch.
        clean_val: That of the epoch that clean validation would have chosen.
        memorised: Wrong training labels that the last epoch predicts as they are.
        corrected: Those that it predicts as the true class.
        other: The rest of them.
        hessian_distance: Of the last epoch.
        distance: Of the last epoch from the start.
        loss: What was trained with, and whether on other labels than those given.
    """

    selected: float
    last: float
    clean_val: float
    memorised: float
    corrected: float
    other: float
    hessian_distance: float
    distance: float
    loss: str


def read(path: Path) -> Numbers | None:
    """The numbers of a run directory, None where it is not finished."""
    if not (path / MEASURED).exists():
        return None
    result, moved = (json.loads((path / name).read_text()) for name in ("result.json", MEASURED))
    config = yaml.safe_load((path / "config.yaml").read_text())
    by = {selection["by"]: 100 * selection["test"]["accuracy"] for selection in result["selections"]}
    noisy = by.get("val-corrected", by["val-accuracy"])
    noise = {name: 100 * result["noise"][name] for name in ("memorised", "corrected", "other")}
    return Numbers(
        selected=noisy,
        last=by["last"],
        clean_val=by.get("clean-val", noisy),
        hessian_distance=moved["hessian_distance"],
        distance=moved["distance"],
        loss=config["method"][0]["name"] + (" on revised labels" if config.get("train_labels") else ""),
        **noise,
    )


Runs = Mapping[int, Numbers]
"""The finished runs of a method by seed."""


def summary(out: Path, cells: Iterable[Cell]) -> list[str]:
    """Lines of Markdown: a table for each data and noise of which a run is finished, and the names of the others."""
    groups: dict[str, dict[str, dict[int, Numbers]]] = {}
    missing: dict[str, int] = {}
    for cell in cells:
        name = f"{cell.data}, {cell.noise}"
        runs = groups.setdefault(name, {}).setdefault(cell.method, {})
        found = read(out / cell.folder)
        if found is None:
            missing[name] = missing.get(name, 0) + 1
        else:
            runs[cell.seed] = found
    lines = []
    for name, methods in groups.items():
        if any(methods.values()):
            lines += ["", f"**{name}**", "", *table(methods)]
    return [*lines, *(["", "Not run: " + "; ".join(f"{name} ({count})" for name, count in missing.items()) + "."] if missing else [])]


def table(methods: Mapping[str, Runs]) -> list[str]:
    """Rows of methods; a method of which no run is finished is marked so."""
    head = (
        *("method", "selected on noisy val", "less plain", "last epoch", "less plain", "selected on clean val"),
        *("memorised", "corrected", "other", "Hessian distance", "distance", "seeds"),
    )
    plain = methods.get("plain", {})
    rows = [_row(name, methods[name], plain) for name in METHODS if name in methods]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows, *_fallbacks(methods)]


def _row(name: str, runs: Runs, plain: Runs) -> str:
    if not runs:
        return f"| `{name}` | not run" + " | " * 10 + " |"

    def of(read: Callable[[Numbers], float], digits: int = 1) -> str:
        return spread([read(found) for found in runs.values()], digits)

    cells = [
        *(of(lambda found: found.selected), difference(runs, plain, lambda found: found.selected)),
        *(of(lambda found: found.last), difference(runs, plain, lambda found: found.last)),
        of(lambda found: found.clean_val),
        *(of(lambda found: found.memorised), of(lambda found: found.corrected), of(lambda found: found.other)),
        *(of(lambda found: found.hessian_distance, 2), of(lambda found: found.distance, 2)),
        str(len(runs)),
    ]
    return f"| `{name}` | {' | '.join(cells)} |"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def difference(runs: Runs, plain: Runs, read: Callable[[Numbers], float]) -> str:
    """Mean of the paired differences from plain fine-tuning with its 95 % interval; bold where that excludes 0."""
    paired = [read(runs[seed]) - read(plain[seed]) for seed in runs if seed in plain]
    if runs is plain or len(paired) < 2:
        return "–"
    found = paired_interval(paired)
    text = f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text


def _fallbacks(methods: Mapping[str, Runs]) -> list[str]:
    """What the recipe trained with where the estimated matrix could not correct."""
    notes = []
    for name, runs in methods.items():
        others = [found.loss for found in runs.values() if METHODS[name].get("labels") == "robust" and found.loss != CORRECTION]
        notes += [f"`{name}` trained with {loss} in {others.count(loss)} of {len(runs)} runs." for loss in dict.fromkeys(others)]
    return ["", " ".join(notes)] if notes else []
