"""What grows with the number of classes, features, probes and images: ``python -m benchmarks.scale --threads 1``.

Five tables, the measured part of docs/scaling.md:

- ``terms``: a step of the head alone (features in, cross-entropy, backward, SGD) and what each method on features adds to it, in turn;
- ``adarand``: its state, its penalty and its update for each number of classes K and width D, beside the matrix products alone, through
  the K x K and the D x D matrix;
- ``setup``: class statistics, in microseconds an image;
- ``images``: the pass over the headers of tar shards, its index read again, and an epoch's order, in microseconds an image;
- ``probes``: a product of Hutchinson's trace, in forward and backward passes.

A median of single calls that take turns, between the least and the largest: processor time of this process on the CPU, wall-clock time
on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import status_bytes
from benchmarks.scale_images import image_rows
from benchmarks.settings import describe_machine
from benchmarks.timing import seconds
from holdfast import attach
from holdfast.distributed import SingleProcess
from holdfast.regularizers.adarand import AdaRand
from holdfast.regularizers.priors import ClassPrior, ClassStatistics
from holdfast.types import Update

SIZES = ((100, 768), (1000, 768), (1000, 2048), (10_000, 768), (21_000, 768))
"""Classes K and features D; the last is ImageNet-21k with a ViT-B."""

METHODS = ("fnp", "randreg", "randreg-cp", "adarand", "bss")
"""Methods on features; the rest of the penalties do not look at K or D, or do so in the head alone."""

Row = dict[str, object]
Call = Callable[[], object]


def times(calls: dict[str, Call], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, which take turns; each was made twice before."""
    for call in calls.values():
        call()
        call()
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name in calls if repeat % 2 == 0 else reversed(calls):
            spent[name].append(clock(calls[name], device))
    return spent


def clock(call: Call, device: torch.device) -> float:
    """Seconds of a call, without what other processes take of a CPU meanwhile."""
    if device.type == "cuda":
        return seconds(call, device)
    began = time.process_time()
    call()
    return time.process_time() - began


def milliseconds(spent: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {name: round(1000 * of(spent), 3) for name, of in (("ms", statistics.median), ("min", min), ("max", max))}


# ---------------------------------------------------------------------------------------------------------------------- terms


def head_step(method: str, classes: int, width: int, batch_size: int, device: torch.device) -> Call:
    """A training step of a head on given features; the backbone is left out, since a method on features does not touch it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch_size, width, generator=generator).to(device)
    labels = torch.randint(classes, (batch_size,), generator=generator).to(device)
    torch.manual_seed(0)
    # One multiplication a feature, so that there is a backbone for gradients to reach.
    net = nn.Sequential(Scale(width), nn.Linear(width, classes)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    terms = attach(net, method, [(features, labels)], num_classes=classes, total_steps=10_000)

    def step() -> None:
        terms.loss(features, labels).backward()
        optimizer.step()
        terms.after_step()
        optimizer.zero_grad(set_to_none=True)

    return step


class Scale(nn.Module):
    """Each feature times a weight of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to features (B, D)."""
        return features * self.weight


def term_rows(sizes: Sequence[tuple[int, int]], batch_size: int, device: torch.device, repeats: int) -> list[Row]:
    """A row for each size and method; ``added`` is the median over that of ``plain``, its uncertainty about that of either."""
    rows: list[Row] = []
    for classes, width in sizes:
        calls = {method: head_step(method, classes, width, batch_size, device) for method in ("plain", *METHODS)}
        found = {method: milliseconds(spent) for method, spent in times(calls, device, repeats).items()}
        for method, numbers in found.items():
            added = round(numbers["ms"] - found["plain"]["ms"], 3)
            rows.append({"table": "terms", "K": classes, "D": width, "B": batch_size, "method": method, **numbers, "added": added})
    return rows


# -------------------------------------------------------------------------------------------------------------------- AdaRand


def started(classes: int, width: int, device: torch.device) -> AdaRand:
    """AdaRand after its setup, on random statistics."""
    torch.manual_seed(0)
    term = AdaRand().to(device)
    mean = torch.randn(classes, width, device=device)
    term.set_prior(ClassPrior(mean, torch.ones_like(mean), torch.ones(classes, dtype=torch.bool, device=device)))
    return term


def update_of(term: AdaRand, batch_size: int) -> Call:
    """What AdaRand does after an optimizer step that has seen a batch."""
    classes, width = term.mean.shape
    features = torch.randn(batch_size, width, device=term.mean.device)
    labels = torch.arange(batch_size, device=term.mean.device) % classes
    sums = term.mean.new_zeros(classes, width + 1)
    counted = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    update = Update(nn.Identity(), SingleProcess(), step=5, epoch=0, step_in_epoch=5, total_steps=10_000)

    def call() -> None:
        term._sums = sums.zero_().index_add_(0, labels, counted)
        term.after_step(update)

    return call


def adarand_rows(sizes: Sequence[tuple[int, int]], batch_size: int, device: torch.device, repeats: int) -> list[Row]:
    """State, time and peak memory of the update alone, and the bare products that it cannot do without."""
    rows: list[Row] = []
    for classes, width in sizes:
        term = started(classes, width, device)
        unit = F.normalize(term.mean)
        calls: dict[str, Call] = {"update": update_of(term, batch_size), "D x D": lambda unit=unit: unit @ (unit.T @ unit)}
        if classes <= 2048:  # beyond, K x K takes longer than all else
            calls["K x K"] = lambda unit=unit: (unit @ unit.T) @ unit
        state = sum(tensor.nbytes for tensor in term.state_dict().values() if isinstance(tensor, Tensor))
        shared = {"table": "adarand", "K": classes, "D": width}
        for name, spent in times(calls, device, repeats).items():
            rows.append({**shared, "what": name, **milliseconds(spent), "state_mib": round(state / 2**20, 2)})
        rows[-len(calls)]["peak_mib"] = memory_in_fresh_process(classes, width, batch_size, device)
    return rows


def peak_mib(classes: int, width: int, batch_size: int, device: torch.device) -> int:
    """Most memory of state and updates together; on the CPU meant to be called in a process of its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = status_bytes("VmRSS")
    update = update_of(started(classes, width, device), batch_size)
    update()
    update()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM")
    return round((peak - before) / 2**20)


def memory_in_fresh_process(classes: int, width: int, batch_size: int, device: torch.device) -> int:
    """:func:`peak_mib` where nothing else was allocated."""
    if device.type == "cuda":
        return peak_mib(classes, width, batch_size, device)
    command = [sys.executable, "-m", "benchmarks.scale", "--memory-of", f"{classes}x{width}", "--batch-size", str(batch_size)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()[-1])


def setup_rows(sizes: Sequence[tuple[int, int]], batch_size: int, device: torch.device, repeats: int) -> list[Row]:
    """Statistics of the classes of a batch, taken into those of all classes."""
    rows: list[Row] = []
    for classes, width in sizes:
        gathered = ClassStatistics(classes)
        features = torch.randn(batch_size, width, device=device)
        labels = torch.randint(classes, (batch_size,), device=device)
        spent = times({"setup": lambda s=gathered, f=features, y=labels: s.update(f, y)}, device, repeats)["setup"]
        per_image = round(1e6 * statistics.median(spent) / batch_size, 2)
        rows.append({"table": "setup", "K": classes, "D": width, "B": batch_size, **milliseconds(spent), "us_an_image": per_image})
    return rows


# --------------------------------------------------------------------------------------------------------------------- probes


def probe_rows(device: torch.device, image_size: int, repeats: int) -> list[Row]:
    """A trace of 4 probes and one of 12: what each further probe costs, and what a trace costs before its first."""
    from benchmarks.curvature import build
    from benchmarks.curvature_tools import TOOLS

    problem = build(device, image_size, 32)
    calls: dict[str, Call] = {"gradient": problem.gradient}
    calls |= {str(count): lambda count=count: TOOLS["holdfast"].trace(problem, count) for count in (4, 12)}
    found = {name: statistics.median(spent) for name, spent in times(calls, device, repeats).items()}
    each = (found["12"] - found["4"]) / 8
    return [
        {
            "table": "probes",
            "network": f"ResNet-18, {image_size} px, batch 32",
            "gradient_ms": round(1000 * found["gradient"], 1),
            "probe_in_gradients": round(each / found["gradient"], 2),
            "before_in_gradients": round((found["4"] - 4 * each) / found["gradient"], 2),
        }
    ]


def print_rows(rows: Sequence[Row]) -> None:
    """As a table for each kind of row."""
    for table in dict.fromkeys(row["table"] for row in rows):
        of_table = [row for row in rows if row["table"] == table]
        names = [name for name in of_table[0] if name != "table"]
        print(f"\n{table}: " + " ".join(f"{name:>14}" for name in names))
        for row in of_table:
            print(" " * (len(str(table)) + 2) + " ".join(f"{row.get(name, '')!s:>14}" for name in names), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ("terms", "adarand", "setup", "images", "probes")
    parser.add_argument("--tables", nargs="+", default=list(tables), choices=tables)
    parser.add_argument("--sizes", nargs="+", type=size, default=list(SIZES), metavar="KxD", help="classes and features, such as 1000x768")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=64, help="of the network whose probes are timed")
    parser.add_argument("--images", type=int, default=20_000, help="images in the shards that are listed")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--memory-of", type=size, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(peak_mib(*options.memory_of, options.batch_size, device))
        return
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, Callable[[], list[Row]]] = {
            "terms": lambda: term_rows(options.sizes, options.batch_size, device, options.repeats),
            "adarand": lambda: adarand_rows(options.sizes, options.batch_size, device, options.repeats),
            "setup": lambda: setup_rows(options.sizes, options.batch_size, device, options.repeats),
            "images": lambda: image_rows(Path(folder), options.images),
            "probes": lambda: probe_rows(device, options.image_size, min(options.repeats, 5)),
        }
        print(describe_machine(device))
        rows: list[Row] = []
        for table in options.tables:
            made = makers[table]()
            print_rows(made)
            rows += made
    if options.json:
        options.json.write_text(json.dumps({"machine": describe_machine(device), "rows": rows}, indent=1) + "\n")


def size(text: str) -> tuple[int, int]:
    """``1000x768`` as numbers."""
    classes, width = map(int, text.split("x"))
    return classes, width


if __name__ == "__main__":
    main()
