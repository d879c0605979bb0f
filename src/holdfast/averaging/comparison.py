"""After a comparison: the averages of its finished cells."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from holdfast.averaging.average import average_group, corrected, write_averages
from holdfast.averaging.record import FILE, Averages, Group, read_averages
from holdfast.compare.cells import Cell
from holdfast.errors import HoldfastError
from holdfast.run import Run
from holdfast.run.files import sha256_json

__all__ = ["FOLDER", "average_comparison"]

log = logging.getLogger("holdfast")

FOLDER = "averages"
"""Where in the directory of a comparison the best averages are, each an ordinary run directory."""


def average_comparison(directory: str | Path, cells: Sequence[Cell], *, device: str = "auto") -> Averages:
    """Average the finished runs of a comparison, setting by setting and data seed by data seed, and write ``averages.json``.

    Runs with another ``--data-seed`` trained on each other's test examples, so that they are never put together; those that only tuned
    have no part in it. What cannot be averaged is noted and does not stop the rest. Where the file is from the same runs it is read
    instead.

    Args:
        directory: That of the comparison, with ``runs/KEY`` below it.
        cells: Its cells; those that are not finished are left out.
        device: As for ``holdfast fit``.

    Returns:
        A group for each setting and data seed.

    Raises:
        RunError: The file cannot be written.
    """
    directory, began = Path(directory), time.monotonic()
    groups = _groups(directory, cells)
    source = sha256_json([[cell.key, cell.method] for group in groups for cell in group])
    if (directory / FILE).is_file():
        there = read_averages(directory)
        if there.source == source:
            return there
    found, evaluations = [], 0
    for number, group in enumerate(groups, start=1):
        made, count = _averaged(directory, group, number, device)
        found.append(made)
        evaluations += count
    averages = Averages(corrected(found), evaluations, time.monotonic() - began, source)
    write_averages(directory, averages)
    return averages


def _groups(directory: Path, cells: Sequence[Cell]) -> list[list[Cell]]:
    """Finished cells that share data, splits and network, in the order of the cells."""
    found: dict[tuple[object, int], list[Cell]] = {}
    for cell in cells:
        if not cell.tuning and _finished(directory / "runs" / cell.key):
            found.setdefault((cell.setting, cell.data_seed), []).append(cell)
    return list(found.values())


def _finished(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and Run.open(folder).finished


def _averaged(directory: Path, cells: Sequence[Cell], number: int, device: str) -> tuple[Group, int]:
    saved = _vacant(directory / FOLDER, number)
    try:
        runs = [(cell.method, Run.open(directory / "runs" / cell.key)) for cell in cells]
        return average_group(runs, saved, root=directory, device=device)
    except HoldfastError as error:
        setting = cells[0].setting
        log.warning("%s, %s, data seed %d: no averages: %s", setting.data, setting.model, cells[0].data_seed, error)
        return Group(setting.data, setting.model, setting.fraction, cells[0].data_seed, (), (), None, None, str(error)), 0


def _vacant(folder: Path, number: int) -> Path:
    """A name that no finished average has yet: that of an earlier, smaller comparison stays where it is."""
    name, again = folder / f"{number:02d}", 1
    while _finished(name):
        again += 1
        name = folder / f"{number:02d}-{again}"
    shutil.rmtree(name, ignore_errors=True)  # what a killed process left half-made
    return name
