"""What ``holdfast fit --dry-run`` prints: the plan of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from holdfast.catalog import method_record
from holdfast.cli.help import two_columns
from holdfast.cli.terminal import out, page_width
from holdfast.wording import count, duration

if TYPE_CHECKING:
    from holdfast.planning import Plan

__all__ = ["print_plan"]

_STORED = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "average": "averaged weights",
    "methods": "state of the methods",
    "reference": "pretrained weights",
    "images": "decoded images",
    "texts": "tokens of the texts",
}


def print_plan(plan: Plan) -> None:
    """Print a plan for people."""
    out.print(Text(f"Plan of {shlex.quote(plan.config.out)}: nothing has been written. Times and memory are estimates."))
    rows = [(Text(title, "bold"), Text(text)) for title, text in _rows(plan)]
    out.print(Padding(two_columns(rows, max(left.cell_len for left, _ in rows)), (0, 0, 0, 2)), width=page_width(out))
    out.print(Text("Next: the same command without --dry-run."))


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    val, test = (f"{n} {split}" if n else f"no {split}" for n, split in ((plan.n_val, "val"), (plan.n_test, "test")))
    yield "Data", f"{plan.config.data}: {len(plan.classes)} classes; {plan.n_train} train, {val}, {test}"
    frozen = f", {count(plan.frozen_parameters)} frozen" if plan.frozen_parameters else ""
    yield "Network", f"{plan.config.model}: {count(plan.trained_parameters)} parameters trained{frozen}"
    for number, (name, text) in enumerate(_methods(plan.config.methods)):
        yield "" if number else "Method", f"{name}: {text}"
    if plan.config.labels == "robust":
        yield "First", _estimate(plan)
    yield "Training", _training(plan)
    yield "Time", _time(plan)
    yield "Memory", _memory(plan)
    yield "Disk", f"{_mib(plan.disk.finished)} when finished, up to {_mib(plan.disk.training)} on the way"


def _methods(entries: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each method with its weight and the cost of a step; plain is not named beside others."""
    for entry in entries:
        if entry["name"] == "plain" and len(entries) > 1:
            continue
        weight = f"weight {entry['weight']:g}; " if "weight" in entry else ""
        yield entry["name"], f"{weight}cost of a step beside plain: {method_record(entry['name']).cost or 'not known'}"


def _estimate(plan: Plan) -> str:
    """The first phase of a run with wrong labels, which the times below leave out."""
    what = "how labels go wrong is estimated, unless --transition or --train-labels tells; then the method may be another"
    if plan.config.estimate_from == "run":
        return f"{what}. That takes a run of its own, about as long as this one, which is not counted below"
    batches = (plan.n_train + plan.n_val) / plan.batch_size
    return f"{what}. Features of the pretrained network take about {duration(plan.time.step / 3 * batches)}, which is not counted below"


def _training(plan: Plan) -> str:
    config = plan.config
    early = f", or until {config.patience} epochs have brought nothing better" if config.patience is not None else ""
    ranks = f" over {plan.ranks} ranks" if plan.ranks > 1 else ""
    return (
        f"{config.epochs} epochs of {plan.steps_per_epoch} steps, {plan.total_steps} in all{early}; "
        f"{plan.batch_size} examples a step{ranks}; {config.optimizer}, lr {config.lr:g}, {config.precision} on {plan.device}"
    )


def _time(plan: Plan) -> str:
    time, timed = plan.time, plan.time.timed_steps
    steps = f"median of {timed} steps" if timed > 1 else "one step was timed"
    return (
        f"about {duration(time.total)}: {duration(time.setup)} to set up, {1000 * time.step:.0f} ms a step ({steps}), "
        f"{duration(time.epoch)} an epoch with its evaluation, up to {duration(time.end)} to evaluate at the end; writing is not counted"
    )


def _memory(plan: Plan) -> str:
    where = "of this process, all libraries included" if plan.device.startswith("cpu") else f"on {plan.device}"
    stored = ", ".join(
        f"{words} {_mib(plan.memory.stored[name])}" for name, words in _STORED.items() if plan.memory.stored.get(name, 0) >= 0.05
    )
    each = " on each rank" if plan.ranks > 1 else ""
    return f"{_mib(plan.memory.peak)} at most {where}{each}; stored all the time: {stored}"


def _mib(size: float) -> str:
    if size >= 1024:
        return f"{size / 1024:.1f} GiB"
    return f"{size:.0f} MiB" if size >= 10 else f"{size:.1f} MiB"
