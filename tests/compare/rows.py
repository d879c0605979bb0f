"""Rows of runs and finished run directories with given accuracies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.compare.cells import Cell, Setting
from holdfast.compare.record import CostRow, Metrics, RunRow, Selection
from holdfast.report.scores import wilson
from holdfast.run import Run, SplitMetrics, sha256_json

PHOTOS = Setting("photos", "demo:glyphnet")


def metrics(accuracy: float | None, n: int = 200) -> SplitMetrics:
    """Metrics of a split, everything but the accuracy made up."""
    interval = None if accuracy is None else wilson(accuracy * n, n)
    return SplitMetrics(n, 0.5, accuracy, interval, accuracy, 0.5, 0.1)


def row(
    method: str,
    accuracy: float | None,
    seed: int = 0,
    data_seed: int = 0,
    *,
    setting: Setting = PHOTOS,
    trial: str = "",
    tuning: bool = False,
    seconds: float = 20.0,
    extra_data: Sequence[str] = (),
) -> RunRow:
    """A run of a method."""
    kept = Selection("val-accuracy", 3, "raw", False, accuracy, accuracy)
    last = Selection("last", 4, "raw", False, accuracy, None if accuracy is None else accuracy - 0.01)
    name = "-".join(map(str, filter(None, (method, setting.data, trial, data_seed, f"s{seed}", "t" * tuning))))
    place = (setting.data, setting.model, setting.fraction, seed, data_seed, trial, tuning, f"runs/{name}")
    cost = CostRow("cpu", 40, seconds / 40, seconds, 900.0 + seed, tuple(extra_data))
    return RunRow(method, *place, Metrics(metrics(accuracy), metrics(accuracy, 50), (kept, last)), cost)


def rows(accuracies: Mapping[str, Sequence[float]], **options: Any) -> list[RunRow]:
    """Runs of several methods, the seeds 0, 1, ... in order."""
    return [row(method, value, seed, **options) for method, values in accuracies.items() for seed, value in enumerate(values)]


def cell(method: str, seed: int = 0, data_seed: int = 0, *, trial: str = "", tuning: bool = False, setting: Setting = PHOTOS) -> Cell:
    """A cell whose key tells what it is, where that can be the name of a directory."""
    key = "-".join(map(str, filter(None, (method, setting.data, trial, f"d{data_seed}", f"s{seed}", "t" * tuning))))
    key = key if re.fullmatch(r"[\w.=-]+", key, re.ASCII) else sha256_json(key)[:16]
    return Cell(method, setting, seed, data_seed, trial, tuning, {"seed": seed, "data_seed": data_seed}, key)


def write_run(
    folder: Path,
    cell: Cell,
    right: int,
    *,
    n: int = 40,
    classes: Sequence[str] = ("ants", "bees"),
    test: bool = True,
    config: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    val_labels: str = "as given",
) -> Run:
    """The finished run of a cell, with ``right`` of ``n`` test examples right, a history of three epochs and predictions."""
    labels = np.arange(n) % len(classes)
    predicted = np.where(np.arange(n) < right, labels, (labels + 1) % len(classes))
    logits = np.eye(len(classes), dtype=np.float32)[predicted]
    ids = [f"{number}.png" for number in range(n)]
    values = {"n": n, "loss": 0.5, "accuracy": right / n, "accuracy_ci95": list(wilson(right, n) or ()), "macro_f1": right / n}
    values |= {"nll": 0.5, "ece": 0.1}
    selection = {"epoch": 2, "step": 6, "weights": "raw", "val": values, "test": values if test else None}
    cost = {"device": "cpu", "steps": 9, "seconds_total": 3.0, "seconds_per_step": 0.3, "seconds_per_epoch": 1.0}
    complete = {
        **{"test": values if test else None, "val": values},
        "data": {"n_train": 90, "fingerprint": f"data-{cell.data_seed}"},
        "model": {"spec": cell.setting.model, "reference_fingerprint": "ab" * 32},
        "selections": [{"by": "val-accuracy", **selection}, {"by": "last", **selection, "epoch": 3}],
        "cost": {**cost, "images_per_second": 90.0, "peak_memory_mib": 800.0},
        **(result or {}),
    }
    run = Run.save(
        folder / "runs" / cell.key,
        model_state={},
        classes=classes,
        predictions=dict.fromkeys(("val", *(("test",) if test else ())), (logits, labels, ids)),
        result=complete,
        config={"data": cell.setting.data, "model": cell.setting.model, "select": "val-accuracy", "seed": cell.seed, **(config or {})},
    )
    run.write_splits({**run.splits, "val_labels": val_labels})
    for epoch in (1, 2, 3):
        share = right / n * epoch / 3
        run.append_history(
            {"epoch": epoch, "step": 3 * epoch, "lr": 0.01, "loss": 1.0 / epoch, "train_accuracy": share, "val_accuracy": share}
        )
    return run
