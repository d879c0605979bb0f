"""Trace and top eigenvalues of a Hessian by holdfast, PyHessian and curvlinops: ``python -m benchmarks.curvature --threads 1``.

torchvision's ResNet-18 with random weights in eval mode, one batch of random images, cross-entropy, float32, all weights. Costs are in
units of one forward and backward pass, timed right before and after: processor time of this process on the CPU, wall-clock time on a
GPU. Memory is the peak of a fresh process for each row, above what it held before the network was built. The others come from the
package index: ``pip install pyhessian curvlinops-for-pytorch``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

from benchmarks.curvature_tools import TOOLS, Eigenvalues, Problem, installed, operator
from benchmarks.memory import status_bytes
from benchmarks.settings import describe_machine
from benchmarks.timing import seconds
from holdfast.measures.spectrum import top_eigenvalues

CLASSES = 10
K = 5
TOLERANCE = 1e-3
FLOOR_PER_PRODUCT = 2.5
"""Gradients for a product over a kept graph."""

FLOOR_PRODUCTS = 16
"""Products that plain Lanczos took for the five eigenvalues."""

BUDGET = {"trace": 1.15, "top": 1.7}
"""Allowed ratios to the floor."""

Row = dict[str, object]


def build(device: torch.device, image_size: int, batch_size: int) -> Problem:
    """The network and its batch."""
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=CLASSES).to(device).eval()
    inputs = torch.randn(batch_size, 3, image_size, image_size)
    return Problem(net, inputs.to(device), torch.randint(CLASSES, (batch_size,)).to(device))


def cost(problem: Problem, task: Callable[[], object], *, around: int = 2) -> float:
    """Time of a task in gradients, those timed ``around`` times before it and after it."""
    device = problem.inputs.device
    before = [_clock(problem.gradient, device) for _ in range(around)]
    spent = _clock(task, device)
    return spent / statistics.median(before + [_clock(problem.gradient, device) for _ in range(around)])


def _clock(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        return seconds(call, device)
    began = time.process_time()
    call()
    return time.process_time() - began


def measure(problem: Problem, names: list[str], *, probes: int, blocks: int) -> tuple[list[Row], dict[str, Eigenvalues]]:
    """A row for each task and tool, and what the tools found; in each block they take turns."""
    device = problem.inputs.device
    costs: dict[tuple[str, str], list[float]] = {(task, name): [] for task in BUDGET for name in names}
    found: dict[str, Eigenvalues] = {}
    problem.gradient()
    gradient = statistics.median(_clock(problem.gradient, device) for _ in range(5))
    for block in range(blocks):
        for name in names if block % 2 == 0 else reversed(names):
            tool = TOOLS[name]
            costs["trace", name].append(cost(problem, lambda tool=tool: tool.trace(problem, probes)))
            costs["top", name].append(cost(problem, lambda tool=tool, name=name: found.update({name: tool.top(problem, K, TOLERANCE)})))
    products = {"trace": dict.fromkeys(names, probes), "top": {name: found[name].products for name in names}}
    shared = {"gradient_ms": round(1000 * gradient, 1), "blocks": blocks, **describe_machine(device)}
    return [_row(task, name, times, products[task][name]) | shared for (task, name), times in costs.items()], found


def _row(task: str, name: str, times: list[float], products: int) -> Row:
    floor = FLOOR_PER_PRODUCT * (products if task == "trace" else FLOOR_PRODUCTS)
    typical = statistics.median(times)
    return {
        "task": task,
        "tool": name,
        "version": installed(name),
        "products": products,
        "cost": round(typical, 2),
        "cost_min": round(min(times), 2),
        "cost_max": round(max(times), 2),
        "per_product": round(typical / products, 3),
        "ratio_to_floor": round(typical / floor, 3),
        "budget": BUDGET[task],
    }


def accuracy(problem: Problem, found: dict[str, Eigenvalues]) -> list[Row]:
    """How far each tool's eigenvalues are from ours at a thirtieth of the tolerance, and how well its pairs solve H u = λ u."""
    matrix = operator(problem, check=False)
    rows: list[Row] = []
    with matrix.keeping():
        truth = torch.tensor(top_eigenvalues(matrix, K, rtol=TOLERANCE / 30).values)
        for name, (values, vectors, _) in found.items():
            pairs = zip(values.tolist(), vectors.to(matrix.device, matrix.dtype).T, strict=True)
            residual = max(float((matrix @ vector - value * vector).norm()) for value, vector in pairs) / float(truth.abs().max())
            rows.append({"tool": name, "value_error": float(((values - truth) / truth).abs().max()), "residual": residual})
    return rows


def peak_mib(name: str, task: str, probes: int, device: torch.device, image_size: int, batch_size: int) -> float:
    """Peak memory of one task; on the CPU meant to be called in a process of its own. The task ``gradient`` is that of every unit."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = status_bytes("VmRSS")
    problem = build(device, image_size, batch_size)
    tool = TOOLS[name]
    {
        "gradient": problem.gradient,
        "trace": lambda: tool.at_once(problem, probes),
        "top": lambda: tool.top(problem, K, TOLERANCE),
    }[task]()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM") - before
    return peak / 2**20


def memory(names: list[str], probes: list[int], options: argparse.Namespace) -> list[Row]:
    """Peak memory of a gradient, of the eigenvalues, and of the trace with several numbers of probes as far as the limit lets them grow."""
    rows = [_memory_row("holdfast", "gradient", None, options)]
    rows += [_memory_row(name, "top", None, options) for name in names]
    for name in names:
        grown: list[tuple[int, float]] = []
        for count in sorted(probes):
            if _extrapolated(grown, count) > options.memory_limit:
                print(f"{name:12} trace     {count:>4} is left out: it would need about {_extrapolated(grown, count):.0f} MiB", flush=True)
                continue
            rows.append(_memory_row(name, "trace", count, options))
            grown.append((count, float(str(rows[-1]["mib"]))))
    return rows


def _extrapolated(grown: list[tuple[int, float]], count: int) -> float:
    """Memory with that many probes on the line through the last two rows."""
    if len(grown) < 2:
        return 0.0
    (fewer, less), (more, much) = grown[-2:]
    return much + (count - more) * (much - less) / (more - fewer)


def _memory_row(name: str, task: str, count: int | None, options: argparse.Namespace) -> Row:
    words = ["--device", options.device, "--image-size", options.image_size, "--batch-size", options.batch_size]
    command = [sys.executable, "-m", "benchmarks.curvature", *map(str, words), "--memory-of", name, task, str(count or 1)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    row: Row = {"tool": name, "task": task, "probes": count, "mib": round(float(run.stdout.split()[-1]))}
    print(f"{name:12} {task:9} {count or '':>4} {row['mib']:>7} MiB", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--probes", type=int, default=10, help="products of a trace")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--memory-probes", nargs="*", type=int, default=[2, 4, 10, 100], help="numbers of probes whose memory is taken")
    parser.add_argument("--memory-limit", type=int, default=4000, metavar="MIB", help="numbers of probes that would need more are left out")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--memory-of", nargs=3, metavar=("TOOL", "TASK", "PROBES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        name, task, count = options.memory_of
        print(peak_mib(name, task, int(count), device, options.image_size, options.batch_size))
        return
    names = [name for name in options.tools if installed(name) is not None]
    for name in set(options.tools) - set(names):
        print(f"{name} is left out: it is not installed; pip install {TOOLS[name].package} adds it.")
    problem = build(device, options.image_size, options.batch_size)
    print(f"torchvision ResNet-18, {options.image_size} px, batch {options.batch_size}, K {CLASSES}, fp32\n{describe_machine(device)}")
    rows, found = measure(problem, names, probes=options.probes, blocks=options.blocks)
    columns = ("products", "cost", "cost_min", "cost_max", "per_product", "ratio_to_floor", "budget")
    print(f"{'task':6} {'tool':12} " + " ".join(f"{column:>14}" for column in columns))
    for row in rows:
        print(f"{row['task']:6} {row['tool']:12} " + " ".join(f"{row[column]:>14}" for column in columns))
    errors = accuracy(problem, found)
    for row in errors:
        print(f"{row['tool']}: eigenvalues off by {row['value_error']:.1e} at most, residual {row['residual']:.1e} of the largest")
    taken = [] if options.no_memory else memory(names, options.memory_probes, options)
    if options.json:
        options.json.write_text(json.dumps({"cost": rows, "accuracy": errors, "memory": taken}, indent=1) + "\n")


if __name__ == "__main__":
    main()
