"""What a comparison adds to its runs: ``python -m benchmarks.compare --epochs 60``.

The same run is made in turn by a plain call of ``holdfast.fit`` in this process and by a warm worker, to which it is handed through
the queue of a comparison: on this machine, and with ``--ray`` on a Ray cluster of its own. Seeds differ from turn to turn. One worker,
so that nothing is compared but the handing over.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

import holdfast
from benchmarks.settings import describe_machine
from benchmarks.timing import seconds
from holdfast.compare.cells import Cell, Executor, Setting
from holdfast.compare.local_workers import LocalWorkers
from holdfast.config.layers import keywords
from holdfast.config.load import config_to_yaml_dict, resolve
from holdfast.training.interrupt import StopRequest

BUDGET = 1.05
"""For runs of a minute and more."""


def options(epochs: int, device: str, threads: int) -> dict[str, Any]:
    """The run that is made."""
    return {"data": "demo:digits", "model": "demo:glyphnet", "epochs": epochs, "flip": False, "device": device, "threads": threads}


def cell(given: dict[str, Any], seed: int) -> Cell:
    """The same as a cell of a comparison."""
    values = config_to_yaml_dict(resolve([keywords({**given, "seed": seed, "out": "anywhere"})]))
    del values["out"]
    return Cell("plain", Setting(given["data"], given["model"]), seed, 0, "", False, values, f"seed-{seed}")


def executors(folder: Path, threads: int, device: str, *, ray: bool) -> dict[str, Executor]:
    """One worker of each kind."""
    found: dict[str, Executor] = {"worker of this machine": LocalWorkers(folder / "local", 1, stop=StopRequest(), threads=threads)}
    if ray:
        from holdfast.compare.ray_workers import RayWorkers

        found["worker on Ray"] = RayWorkers(folder / "ray", address="local", stop=StopRequest(), cpus=threads, device=device, count=1)
    return found


def make(executor: Executor, own: Cell) -> None:
    """Have a cell made."""
    (outcome,) = executor.run([own])
    if outcome.error is not None:
        raise RuntimeError(outcome.error)


def measure(name: str, executor: Executor, given: dict[str, Any], folder: Path, repeats: int) -> dict[str, object]:
    """The row of one kind of worker."""
    make(executor, cell({**given, "epochs": 1}, repeats))  # it imports torch now
    pairs = []
    for seed in range(repeats):
        device = torch.device("cpu")  # both wait for their device themselves
        bare = seconds(lambda seed=seed: holdfast.fit(**given, seed=seed, out=folder / "bare" / name / f"{seed}"), device)
        pairs.append((bare, seconds(lambda seed=seed: make(executor, cell(given, seed)), device)))
    ratios = [handed / bare for bare, handed in pairs]
    return {
        "executor": name,
        "ratio": statistics.median(ratios),
        "min": min(ratios),
        "max": max(ratios),
        "budget": BUDGET,
        "seconds_a_run": statistics.median(bare for bare, _ in pairs),
        "added_seconds": statistics.median(handed - bare for bare, handed in pairs),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="of each run; choose them so that a run takes a minute")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="a worker on Ray too")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    print(describe_machine(torch.device(arguments.device)))
    given = options(arguments.epochs, arguments.device, arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("local", "ray"):
            (Path(folder) / kind).mkdir()
        found = executors(Path(folder), arguments.threads, arguments.device, ray=arguments.ray)
        try:
            print(f"{'executor':24} {'ratio':>7} {'min':>7} {'max':>7} {'budget':>7} {'s a run':>9} {'added s':>9}")
            for name, executor in found.items():
                row = measure(name, executor, given, Path(folder), arguments.repeats)
                rows.append(row)
                numbers = " ".join(f"{row[key]:7.3f}" for key in ("ratio", "min", "max", "budget"))
                print(f"{name:24} {numbers} {row['seconds_a_run']:9.2f} {row['added_seconds']:9.3f}", flush=True)
        finally:
            for executor in found.values():
                executor.close()
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe_machine(torch.device(arguments.device)), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
