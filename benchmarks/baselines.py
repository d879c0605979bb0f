"""Which plain fine-tuning is the strongest? ``python -m benchmarks.baselines --data DEST --weights FILE --out DIR``.

Baselines of ``holdfast list baselines`` against ``plain`` at three learning rates, with paired seeds (each draws its own split, head and
order); not ``early-stopping``, which changes hardly more than time. The rate of a baseline is chosen by the mean validation accuracy over
the seeds; test accuracy is for the table alone. Each cell is a run directory under ``--out``: a stopped command goes on where it was, and
``--minutes`` of CPU time end it, with the cells that are left counted as not run.

``DEST`` holds the unpacked archives ``cars98a`` and ``hymenoptera``; their network is MobileNetV1-0.25 with the weights of ``FILE``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import holdfast
from holdfast.catalog.baselines import BASELINES
from holdfast.demo import paired_interval

METHODS: dict[str, Mapping[str, Any]] = {
    "plain": {},
    **{name: BASELINES[name].options for name in ("head-lr", "llrd", "ema", "lp-ft", "linear-probe")},
    "lp-ft, llrd, ema": {**BASELINES["lp-ft"].options, **BASELINES["llrd"].options, **BASELINES["ema"].options},
}
RATES = (0.01, 0.003, 0.03)

COMMON: dict[str, Any] = {"method": "plain", "device": "cpu", "threads": 1, "flip": True}
MOBILENET: dict[str, Any] = {"model": "demo:mobilenetv1-025", "image_size": 96}


class Task(NamedTuple):
    """A dataset with its network: options, learning rates and seeds."""

    options: Mapping[str, Any]
    rates: Sequence[float]
    seeds: Sequence[int]


TASKS: dict[str, Task] = {
    "digits": Task(
        {"data": "demo:digits", "model": "demo:glyphnet", "shots": 10, "epochs": 30, "batch_size": 20, "flip": False}, RATES, range(5)
    ),
    "hymenoptera": Task({**MOBILENET, "test_split": "val", "val_fraction": 0.2, "epochs": 12, "batch_size": 32}, RATES, range(3)),
    "cars98a": Task(
        {**MOBILENET, "train_list": "train_25.txt", "val_fraction": 0.2, "epochs": 15, "batch_size": 32}, (0.01, 0.03), range(3)
    ),
}


@dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    method: str
    rate: float
    seed: int

    @property
    def folder(self) -> str:
        """Its run directory under ``--out``; the probe knows no rate, and so has one for all."""
        rate = "" if self.method == "linear-probe" else f"-lr{self.rate:g}"
        return f"{self.task}/{self.method.replace(', ', '+')}{rate}-seed{self.seed}"


def cells() -> Iterator[Cell]:
    """All of them: the default rate first, seed by seed, so that a part of them is balanced."""
    for rate in RATES:
        for task, (_, rates, seeds) in TASKS.items():
            for seed in seeds if rate in rates else ():
                yield from (Cell(task, method, rate, seed) for method in METHODS)


def run(cell: Cell, options: argparse.Namespace) -> None:
    """Make it, or go on with it."""
    path = options.out / cell.folder
    if (path / "config.yaml").exists():
        holdfast.fit(resume=path)
        return
    given = {**COMMON, **TASKS[cell.task].options, **METHODS[cell.method], "lr": cell.rate, "seed": cell.seed, "data_seed": cell.seed}
    if "data" not in given:
        given |= {"data": options.data / cell.task, "weights": options.weights}
    holdfast.fit(**given, out=path)


def accuracy(out: Path, cell: Cell, split: str) -> float | None:
    """In percent; None where the cell is not finished."""
    file = out / cell.folder / "result.json"
    return 100 * json.loads(file.read_text())[split]["accuracy"] if file.exists() else None


def found(out: Path, task: str, method: str, rate: float, split: str) -> list[float]:
    """Accuracies of the seeds; empty unless all are finished."""
    values = [accuracy(out, Cell(task, method, rate, seed), split) for seed in TASKS[task].seeds]
    return [value for value in values if value is not None] if None not in values else []


def chosen_rate(out: Path, task: str, method: str) -> float | None:
    """The best by mean validation accuracy, of equals the first; None where no rate is finished."""
    means = {rate: statistics.mean(values) for rate in TASKS[task].rates if (values := found(out, task, method, rate, "val"))}
    return max(means, key=means.__getitem__) if means else None


def table(out: Path, task: str) -> list[str]:
    """Lines of a Markdown table: at the default rate, and at the rate chosen on validation, with the paired difference from plain."""
    lines = ["| baseline | val, lr 0.01 | test, lr 0.01 | less plain (95 %) | lr by val | val | test | less plain (95 %) |"]
    lines.append("|---" * 8 + "|")
    for method in METHODS:
        rate, plain_rate = chosen_rate(out, task, method), chosen_rate(out, task, "plain")
        usual = [*_mean(out, task, method, RATES[0]), _difference(out, task, method, RATES[0], RATES[0])]
        tuned = ["not run"] * 4
        if rate is not None and plain_rate is not None:
            shown = "any" if method == "linear-probe" else f"{rate:g}"
            tuned = [shown, *_mean(out, task, method, rate), _difference(out, task, method, rate, plain_rate)]
        lines.append(f"| `{method}` | {' | '.join([*usual, *tuned])} |")
    return lines


def _mean(out: Path, task: str, method: str, rate: float) -> list[str]:
    both = [found(out, task, method, rate, split) for split in ("val", "test")]
    return [f"{statistics.mean(values):.1f}" if values else "not run" for values in both]


def _difference(out: Path, task: str, method: str, rate: float, plain_rate: float) -> str:
    own, plain = found(out, task, method, rate, "test"), found(out, task, "plain", plain_rate, "test")
    if method == "plain" or not own or not plain:
        return "–"
    interval = paired_interval([one - other for one, other in zip(own, plain, strict=True)])
    return f"{interval.mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cars98a and hymenoptera, unpacked")
    parser.add_argument("--weights", type=Path, required=True, help="mobilenetv1_025_imagenet.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--minutes", type=float, default=25.0, help="CPU minutes after which no further run is started")
    options = parser.parse_args()
    everything, began = list(cells()), time.process_time()
    for cell in everything:
        if time.process_time() - began < 60 * options.minutes and not (options.out / cell.folder / "result.json").exists():
            run(cell, options)
            print(f"{cell.folder}: {(time.process_time() - began) / 60:.1f} CPU minutes so far", flush=True)
    left = sum(not (options.out / cell.folder / "result.json").exists() for cell in everything)
    print(f"\n{len(everything) - left} of {len(everything)} runs; {left} not run")
    for task in TASKS:
        print(f"\n{task}, {len(TASKS[task].seeds)} seeds: accuracy in percent\n")
        print("\n".join(table(options.out, task)))


if __name__ == "__main__":
    main()
