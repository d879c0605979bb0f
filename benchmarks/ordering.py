"""Do the methods stand in the papers' order on small real data? ``python -m benchmarks.ordering --data DEST --weights FILE --out DIR``.

Every method runs with its published hyper-parameters, and once more with its weight chosen on validation from :data:`FACTORS` times the
published one; all with the same epochs and the same number of trials. Each cell is an ordinary run directory under ``--out``: a stopped
command goes on where it was, and ``--hours`` ends it in time, with the cells that are left marked as not run.

``DEST`` holds the unpacked archives ``cars98a`` and ``hymenoptera``; the network is MobileNetV1-0.25 with the weights of ``FILE``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.catalog import METHODS as RECORDS

FACTORS = (0.125, 0.5, 1.0, 2.0)
SEEDS = (0, 1, 2)
TUNING_SEED = 100

RATES = "--lr 0.01"
OF_THE_LIBRARY = "--lr 0.001 --head-lr 0.01"
"""The rates that the Transfer-Learning-Library published its weights for."""


@dataclass(frozen=True)
class Row:
    """A row of the table: a method, its options, the weight that is tuned, where it has one, and the learning rates."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: str | None = "weight"
    rates: str = RATES


METHODS: dict[str, Row] = {
    "plain": Row("plain", weight=None),
    "fnp": Row("fnp"),
    "randreg-uniform": Row("randreg", {"prior": "uniform"}),
    "randreg-normal": Row("randreg", {"prior": "normal"}),
    "randreg": Row("randreg", {"prior": "pretrained"}),
    "randreg-cp": Row("randreg-cp"),
    "adarand": Row("adarand"),
    "l2-sp": Row("l2-sp"),
    "delta": Row("delta", {"attention": False}),
    "delta-attention": Row("delta"),
    "bss": Row("bss"),
    "core-tuning": Row("core-tuning", weight="contrastive_weight"),
    "dr-tune": Row("dr-tune", weight=None),
    "co-tuning": Row("co-tuning"),
    "bi-tuning": Row("bi-tuning", weight="contrastive_weight"),
    "stochnorm": Row("stochnorm", weight=None),
    "plain, slow backbone": Row("plain", weight=None, rates=OF_THE_LIBRARY),
    "delta-attention, slow backbone": Row("delta", rates=OF_THE_LIBRARY),
    "co-tuning, slow backbone": Row("co-tuning", rates=OF_THE_LIBRARY),
}
"""By name in the table. UOT needs ImageNet itself, which is not here."""

COMMON = "--image-size 128 --batch-size 64 --optimizer sgd --device cpu --deterministic --threads 1"
DATASETS = {
    "cars98a": ("--train-list train_25.txt --epochs 30 --schedule step --milestones 9,18,24", "--val-fraction 0 --select last"),
    "hymenoptera": ("--test-split val --epochs 12", "--val-fraction 0 --select last"),
}
"""Options of the data; those of the final runs, which train on all training images. Tuning holds out a fifth of them."""
TUNING = "--val-fraction 0.2 --select last"


@dataclass(frozen=True)
class Cell:
    """One run: a dataset, a method with a multiple of its published weight, a seed, and whether it is for tuning."""

    dataset: str
    method: str
    factor: float
    seed: int
    tuning: bool = False

    @property
    def folder(self) -> str:
        """Its run directory under ``--out``."""
        name = self.method.replace(", ", "-").replace(" ", "-")
        return f"{self.dataset}/{name}-x{self.factor:g}-{'tuning' if self.tuning else f'seed{self.seed}'}"

    def words(self, options: argparse.Namespace) -> list[str]:
        """The command that makes it, or goes on with it."""
        run = options.out / self.folder
        if (run / "config.yaml").exists():
            return ["fit", "--resume", str(run)]
        of_data, final = DATASETS[self.dataset]
        words = ["fit", str(options.data / self.dataset), "--model", "demo:mobilenetv1-025", "--weights", str(options.weights)]
        words += [*f"{of_data} {TUNING if self.tuning else final} {COMMON} --seed {self.seed} --out".split(), str(run)]
        row = METHODS[self.method]
        words += [*row.rates.split(), "--method", row.method]
        for key, value in row.options.items():
            words += [f"--method.{key}", str(value).lower()]
        if row.weight is not None:
            words += [f"--method.{row.weight}", repr(self.factor * RECORDS[row.method].all_options[row.weight].default)]
        return words


def published(dataset: str) -> Iterator[Cell]:
    """Every method as published, seed by seed."""
    return (Cell(dataset, method, 1.0, seed) for seed in SEEDS for method in METHODS)


def tuning(dataset: str) -> Iterator[Cell]:
    """The trials of those methods that have a weight."""
    return (
        Cell(dataset, method, factor, TUNING_SEED, tuning=True)
        for factor in FACTORS
        for method in METHODS
        if METHODS[method].weight is not None
    )


def tuned(dataset: str, out: Path) -> Iterator[Cell]:
    """The methods whose trials are all done, with the factor that was best on validation; of equals the one nearest to 1."""
    for seed in SEEDS:
        for method in METHODS:
            trials = {f: accuracy(out, Cell(dataset, method, f, TUNING_SEED, tuning=True), "val") for f in FACTORS}
            if METHODS[method].weight is not None and None not in trials.values():
                best = max(FACTORS, key=lambda factor: (trials[factor], -abs(factor - 1)))
                yield Cell(dataset, method, best, seed)


def accuracy(out: Path, cell: Cell, split: str) -> float | None:
    """In percent; None where the cell is not finished."""
    file = out / cell.folder / "result.json"
    return 100 * json.loads(file.read_text())[split]["accuracy"] if file.exists() else None


def run(cells: Sequence[Cell], options: argparse.Namespace, until: float) -> None:
    """Run what is not finished, ``--jobs`` at a time, and start nothing after ``until``."""

    def one(cell: Cell) -> None:
        if time.monotonic() > until or (options.out / cell.folder / "result.json").exists():
            return
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "holdfast", *cell.words(options)], capture_output=True, text=True)
        state = f"{time.monotonic() - began:.0f} s" if done.returncode == 0 else f"failed: {done.stderr.strip().splitlines()[-1:]}"
        print(f"{cell.folder}: {state}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, cells))


def table(dataset: str, out: Path) -> list[str]:
    """Lines of a Markdown table: mean and standard deviation over the finished seeds of each method, published and tuned."""
    best = {cell.method: cell.factor for cell in tuned(dataset, out)}
    lines = ["| method | published | weight chosen on validation | factor |", "|---|---|---|---|"]
    for method in METHODS:
        as_published = [accuracy(out, Cell(dataset, method, 1.0, seed), "test") for seed in SEEDS]
        chosen = [accuracy(out, Cell(dataset, method, best[method], seed), "test") for seed in SEEDS] if method in best else []
        factor = f"{best[method]:g}" if method in best else "–"
        other = _summary(chosen) if METHODS[method].weight is not None else "–"
        lines.append(f"| `{method}` | {_summary(as_published)} | {other} | {factor} |")
    return lines


def _summary(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "not run"
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{spread} ({len(found)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cars98a and hymenoptera, unpacked")
    parser.add_argument("--weights", type=Path, required=True, help="mobilenetv1_025_imagenet.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--hours", type=float, default=2.0, help="CPU hours after which no further run is started")
    options = parser.parse_args()
    until = time.monotonic() + 3600 * options.hours / options.jobs
    for dataset in options.datasets:
        run([*published(dataset), *tuning(dataset)], options, until)
        run(list(tuned(dataset, options.out)), options, until)
    for dataset in options.datasets:
        print(f"\n{dataset}: test accuracy in percent, mean ± standard deviation (seeds)\n")
        print("\n".join(table(dataset, options.out)))


if __name__ == "__main__":
    main()
