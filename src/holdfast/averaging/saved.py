"""An average as a run directory, for ``holdfast predict``, ``audit`` and ``report``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from holdfast.averaging.averages import Averaged
from holdfast.averaging.bench import Bench
from holdfast.recorded import PROBE, REFERENCE_WEIGHTS
from holdfast.run import Run
from holdfast.run.files import sha256_json
from holdfast.training.evaluate import Predictions, measure

__all__ = ["save_average"]


def save_average(folder: Path, averaged: Averaged, bench: Bench, test: Predictions | None) -> Run:
    """Write the weights with everything that makes them a finished run.

    Options, start and history are those of the run among its members that is best on validation; ``result.json`` says under ``average``
    what went in. The epoch is not known, since there is none.

    Args:
        folder: New or empty directory.
        averaged: What no single run is.
        bench: Where it was made.
        test: Its predictions on the test split.
    """
    assert averaged.weights is not None
    first = averaged.members[0].run
    run = Run.create(folder, {**first.config, "out": str(folder)}, note=_note(averaged))
    run.write_splits(first.splits)
    if first.network is not None:
        run.write_network({file.name: file for file in first.network.iterdir()})
    run.write_reference(first.reference, first.load_reference_weights() if first.has(REFERENCE_WEIGHTS) else None)
    if first.reference["head"]["init"] == "probe":
        shutil.copytree(first.path / PROBE, run.path / PROBE)
    found = {"val": bench.predict(averaged.weights, "val"), **({} if test is None else {"test": test})}
    run.save_model(averaged.weights)
    run.save_predictions({split: (rows.logits.numpy(), rows.labels.numpy(), bench.data.ids(split)) for split, rows in found.items()})
    run.write_result(_result(averaged, bench, {split: measure(rows) for split, rows in found.items()}))
    return run


def _note(averaged: Averaged) -> str:
    names = ", ".join(member.run.path.name for member in averaged.members)
    return f"No run of its own: {averaged.kind} of {names}. The options are those of {averaged.members[0].run.path.name}."


def _result(averaged: Averaged, bench: Bench, measured: Mapping[str, Any]) -> dict[str, Any]:
    first = averaged.members[0].run.result
    assert averaged.weights is not None
    splits = {"val": measured["val"], "test": measured.get("test")}
    members = [str(member.run.path) for member in averaged.members]
    return {
        **{key: first[key] for key in ("schema", "data", "model")},
        "holdfast": metadata.version("holdfast"),
        "finished": True,
        "config_hash": sha256_json([averaged.kind, *(member.run.result["config_hash"] for member in averaged.members)]),
        "train": measure(bench.predict(averaged.weights, "train")),
        **splits,
        "selections": [{"by": "val-accuracy", "epoch": None, "step": None, "weights": "raw", **splits}],
        "terms": {},
        "average": {"kind": averaged.kind, "methods": list(averaged.methods), "members": members, **averaged.details},
        "cost": dict.fromkeys(first["cost"]),
    }
