"""Comparisons as directories, made by code: records and the runs they are of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.compare.rows import PHOTOS, cell, write_run

from holdfast.compare.cells import Outcome, Setting
from holdfast.compare.record import FILE
from holdfast.compare.record_file import to_text
from holdfast.compare.summary import summarize

RIGHT = {"plain": (50, 53, 52, 51), "adarand": (56, 58, 59, 56), "bss": (40, 44, 42, 40), "uot": (51, 51, 54, 50)}
"""Right test examples, of 70, of each method by seed."""

CLASSES = ("ants", "bees", "cats", "dogs")


def write_comparison_of(
    folder: Path,
    right: dict[str, Sequence[int]],
    *,
    settings: Sequence[Setting] = (PHOTOS,),
    data_seeds: Sequence[int] = (0,),
    classes: Sequence[str] = CLASSES,
    error: str = "it ran out of memory",
    search: bool = True,
    every_pair: bool = False,
) -> Path:
    """A comparison with its runs: several settings and data seeds have the same numbers, the last run of all is missing."""
    cells = []
    for setting in settings:
        for method, counts in right.items():
            for data_seed in data_seeds:
                for seed, count in enumerate(counts):
                    cells.append(cell(method, seed, data_seed, setting=setting, trial="weight=1" if search and method == "adarand" else ""))
                    config = {"source_data": "big"} if method == "uot" else {}
                    run = write_run(folder, cells[-1], count, n=70, classes=classes, config=config)
                    best = {**run.result["selections"][1], "by": "best-by-test", "epoch": 1}
                    run.write_result({**run.result, "selections": [*run.result["selections"], best]})
        if search:
            for trial, count in (("weight=1", 55), ("weight=8", 54)):
                cells.append(cell("adarand", 9, trial=trial, tuning=True, setting=setting))
                write_run(folder, cells[-1], count, n=70, classes=classes)
    missing = cell(list(right)[-1], 9, setting=settings[0])
    comparison = summarize([*cells, missing], folder, outcomes=[Outcome(missing, error, 1.0)], every_pair=every_pair)
    (folder / FILE).write_text(to_text(comparison), encoding="utf-8")
    (folder / "comparison.yaml").write_text("seeds: 4\n")
    return folder
