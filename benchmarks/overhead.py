"""The cost of each method against a bare PyTorch step: ``python -m benchmarks.overhead --settings S M M2048``.

A bare step is forward, cross-entropy, backward and SGD with Nesterov momentum, written out below. The method's step is the same with
``holdfast.attach``. Both run in turn in one process; memory is the peak of a fresh process for each method, above what it held
before the network was built.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.floors import EXTRA_WORK, WHOLE_STEPS
from benchmarks.memory import status_bytes
from benchmarks.settings import SETTINGS, Setting, describe_machine
from benchmarks.timing import Ratio, interleave
from holdfast import attach
from holdfast.attach import Attached, build_terms, head_form
from holdfast.catalog import parse_methods

METHODS = {
    "plain": "plain",
    "fnp": "fnp",
    "randreg-uniform": [{"name": "randreg", "prior": "uniform"}],
    "randreg-normal": [{"name": "randreg", "prior": "normal"}],
    "randreg": "randreg",
    "randreg-cp": "randreg-cp",
    "adarand": "adarand",
    "l2-sp": "l2-sp",
    "distance": "distance",
    "distance-frob": [{"name": "distance", "ratio": 1e-6, "head_radius": 1e-3, "bn": "diagonal"}],
    "distance-infop": [{"name": "distance", "norm": "infop", "ratio": 1e-6, "head_radius": 1e-3, "bn": "diagonal"}],
    "distance-infop-exact": [{"name": "distance", "norm": "infop_exact", "ratio": 1e-6, "head_radius": 1e-3, "bn": "diagonal"}],
    "distance-penalty": "distance-penalty",
    "distance-penalty-infop": [{"name": "distance-penalty", "norm": "infop"}],
    "delta": [{"name": "delta", "attention": False}],
    "delta-attention": [{"name": "delta", "attention": True, "attention_epochs": 0, "attention_batches": 1}],
    "bss": "bss",
    "co-tuning": "co-tuning",
    "core-tuning": "core-tuning",
    "dr-tune": "dr-tune",
    "uot": "uot",
    "bi-tuning": "bi-tuning",
    "stochnorm": "stochnorm",
    "backward": [{"name": "backward", "transition": "symmetric:0.4"}],
    "backward-abs": [{"name": "backward", "transition": "symmetric:0.4", "nonneg": "abs"}],
    "forward": [{"name": "forward", "transition": "symmetric:0.4"}],
    "label-smoothing": "label-smoothing",
    "gce": "gce",
    "gce-truncated": [{"name": "gce", "truncate": 0.5, "prune_start": 0}],
    "sce": "sce",
    "js": "js",
    "elr": "elr",
    "sat": [{"name": "sat", "start_epoch": 0}],
    "dac": "dac",
    "apl": "apl",
    "mixup": "mixup",
}
"""What is measured, by the name in the table. At this rate ``distance`` projects little, the two behind it all layers at every step."""

NO_EXTRA_WORK = (
    *("plain", "fnp", "randreg-uniform", "randreg-normal", "randreg", "randreg-cp"),
    *("backward", "backward-abs", "forward", "label-smoothing", "gce", "gce-truncated", "sce", "js", "elr", "sat", "dac", "apl", "mixup"),
)
BUDGET = dict.fromkeys(NO_EXTRA_WORK, 1.02) | {
    "delta": 1.40,
    "delta-attention": 1.40,
    "bss": 1.03,
    "co-tuning": 1.04,
}
BUDGET_BY_SETTING = {
    "adarand": {"M": 1.02, "S": 1.02, "M2048": 1.07, "G": 1.03, "V": 1.03},
    "l2-sp": {"S": 1.10, "M": 1.03, "M2048": 1.03, "G": 1.03, "V": 1.03},
    **{
        name: {"S": 1.06, "M": 1.03, "M2048": 1.03, "G": 1.03, "V": 1.03}
        for name in METHODS
        if name.startswith("distance") and "penalty" not in name
    },
    "core-tuning": {"S": 1.15, "G": 1.10},
}
"""The rest are allowed their floor and 5 %."""
Step = Callable[[], None]


def make_step(setting: Setting, method: str | None, device: torch.device) -> Step:
    """One training step as a call: bare for None, else with the method attached."""
    net = (setting if method is None else _with_outputs(setting, method)).build(device)
    inputs, labels = setting.batch(device)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-3, momentum=0.9, nesterov=True)
    loss = _bare_loss(net) if method is None else None
    terms = None if method is None else _attached(setting, method, net, device)
    further: dict[str, object] = {}
    if terms is not None:
        needs = [weighted.term.NEEDS for weighted in terms.objective.configured]
        views = [setting.batch(device, seed=9)[0]] * max(need.views for need in needs)
        extra = {name: setting.batch(device, seed=1) for need in needs for name in need.extra}
        further = {"index": torch.arange(len(labels), device=device), "views": views, "extra": extra}
    mixed = setting.precision == "bf16"
    net.train()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            total = terms.loss(inputs, labels, **further) if terms is not None else loss(inputs, labels)
        total.backward()
        optimizer.step()
        if terms is not None:
            terms.after_step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _with_outputs(setting: Setting, method: str) -> Setting:
    """The setting with a head that has the outputs the method wants beyond the classes."""
    extra = head_form(build_terms(parse_methods(METHODS[method]))).extra
    return dataclasses.replace(setting, num_classes=setting.num_classes + extra)


def _attached(setting: Setting, method: str, net: nn.Module, device: torch.device) -> Attached:
    """The method with all it may ask for: training, validation and source data, and a pretrained network with a head of its own."""
    batches = [setting.batch(device, seed) for seed in range(4)]
    pretrained = dataclasses.replace(setting, num_classes=1000).build(device)
    return attach(
        net,
        METHODS[method],
        batches,
        num_classes=setting.num_classes,
        pretrained=pretrained,
        val=batches[:1],
        source=batches,
        total_steps=10_000,
    )


def _bare_loss(net: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda inputs, labels: F.cross_entropy(net(inputs), labels)


def peak_memory_mib(setting: Setting, method: str | None, device: torch.device, steps: int = 4) -> float:
    """Peak memory of a few steps; on the CPU meant to be called in a process of its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        before = status_bytes("VmRSS")
    step = make_step(setting, method, device)
    for _ in range(steps):
        step()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM")
    return (peak - before) / 2**20


def memory_in_fresh_process(setting: Setting, method: str | None, device: torch.device) -> float:
    """:func:`peak_memory_mib` where the allocator remembers nothing of other methods; the least of three, since the system adds noise."""
    if device.type == "cuda":
        return peak_memory_mib(setting, method, device)
    command = [sys.executable, "-m", "benchmarks.overhead", "--memory-of", setting.name, method or "bare"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    runs = [subprocess.run(command, check=True, capture_output=True, text=True, env=environment) for _ in range(3)]
    return min(float(run.stdout.split()[-1]) for run in runs)


def budget(method: str, setting: Setting, floor: float) -> float:
    """The largest ratio the project allows itself."""
    return BUDGET.get(method) or BUDGET_BY_SETTING.get(method, {}).get(setting.name) or round(1.05 * floor, 4)


def measure(
    setting: Setting, methods: list[str], device: torch.device, *, steps: int, blocks: int, memory: bool
) -> list[dict[str, object]]:
    """One row a method."""
    bare = make_step(setting, None, device)
    bare_memory = memory_in_fresh_process(setting, None, device) if memory else None
    rows: list[dict[str, object]] = []
    for method in methods:
        # DR-Tune rotates at every tenth step, which a median would not see.
        typical = statistics.mean if method == "dr-tune" else statistics.median
        steps = 10 * math.ceil(steps / 10) if method == "dr-tune" else steps

        def timed(other: Step, steps: int = steps, typical: Callable[[Iterable[float]], float] = typical) -> Ratio:
            return interleave(bare, other, device, steps=steps, blocks=blocks, typical=typical)

        ratio = timed(make_step(setting, method, device))
        floor = 1.0
        if method in EXTRA_WORK:
            floor += timed(EXTRA_WORK[method](setting, device)).ratio
        if method in WHOLE_STEPS:
            floor = timed(WHOLE_STEPS[method](setting, device)).ratio
        memory_ratio = memory_in_fresh_process(setting, method, device) / bare_memory if bare_memory else None
        row = {
            "method": method,
            "ratio": round(ratio.ratio, 4),
            "ratio_min": round(ratio.low, 4),
            "ratio_max": round(ratio.high, 4),
            "floor": round(floor, 4),
            "budget": budget(method, setting, floor),
            "memory_ratio": None if memory_ratio is None else round(memory_ratio, 4),
            "settings": {
                "setting": str(setting),
                "bare_ms": round(1000 * ratio.base_seconds, 2),
                "steps": steps,
                "blocks": blocks,
                **describe_machine(device),
            },
        }
        rows.append(row)
        print(line(row), flush=True)
    return rows


def line(row: dict[str, object]) -> str:
    """A row of the table."""
    memory = "" if row["memory_ratio"] is None else f"{row['memory_ratio']:8.3f}"
    numbers = (f"{row[key]:7.3f}" for key in ("ratio", "ratio_min", "ratio_max", "floor", "budget"))
    return f"{row['method']:16} {' '.join(numbers)} {memory}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["S", "M", "M2048"], choices=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, help="instead of the setting's")
    parser.add_argument("--steps", type=int, default=10, help="pairs of steps in a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--memory-of", nargs=2, metavar=("SETTING", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        name, method = options.memory_of
        print(peak_memory_mib(SETTINGS[name], None if method == "bare" else method, device))
        return
    rows = []
    for name in options.settings:
        setting = SETTINGS[name]
        if options.batch_size:
            setting = dataclasses.replace(setting, batch_size=options.batch_size)
        print(f"\n{setting}\n{describe_machine(device)}")
        print(f"{'method':16} {'ratio':>7} {'min':>7} {'max':>7} {'floor':>7} {'budget':>7} {'memory':>8}")
        rows += measure(setting, options.methods, device, steps=options.steps, blocks=options.blocks, memory=not options.no_memory)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
