"""Does the Hessian measure say more about the generalization gap than simpler ones? ``python -m benchmarks.validation --out DIR``.

Many runs on the demo digits (methods, weights, learning lengths, numbers of images, seeds), each audited; then the rank correlation, over
runs, of each measure with the observed gap (test loss minus training loss), and how often the bound held. Each cell is a run directory
under ``--out``: a stopped command goes on where it was, and ``--hours`` ends it in time, with the cells that are left named as not run.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

import holdfast

SEEDS = (0, 1, 2)
SHOTS = (5, 20)
COMMON: dict[str, Any] = {
    "data": "demo:digits",
    "model": "demo:glyphnet",
    "batch_size": 50,
    "lr": 0.03,
    "flip": False,
    "val_fraction": 0,
    "select": "last",
    "device": "cpu",
    "threads": 1,
}
EPOCHS = {5: 100, 20: 25}
"""By images a class: 100 steps each."""

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, a fifth of the steps": {"steps": 0.2},
    "plain, lr 0.1": {"lr": 0.1},
    "plain, weight decay 0.01": {"weight_decay": 0.01},
    "l2-sp 0.01": {"method": "l2-sp"},
    "l2-sp 0.3": {"method": [{"name": "l2-sp", "weight": 0.3}]},
    "adarand 0.03": {"method": [{"name": "adarand", "weight": 0.03}]},
    "adarand 1": {"method": [{"name": "adarand", "weight": 1.0}]},
    "fnp 0.01": {"method": [{"name": "fnp", "weight": 0.01}]},
    "randreg-cp 0.03": {"method": [{"name": "randreg-cp", "weight": 0.03}]},
    "bss": {"method": "bss"},
    "label-smoothing": {"method": "label-smoothing"},
    "distance 0.1": {"method": [{"name": "distance", "ratio": 0.1}]},
    "distance 0.5": {"method": [{"name": "distance", "ratio": 0.5}]},
}
"""Options by the name in the table; ``steps`` is the share of :data:`EPOCHS` that is trained."""

AUDIT: dict[str, Any] = {"samples": 128, "budget": "400products", "threads": 1, "device": "cpu"}


class Measure(NamedTuple):
    """A number of an audit that might go with the gap."""

    name: str
    read: Callable[[Mapping[str, Any]], float | None]


def _value(estimate: Mapping[str, Any] | None) -> float | None:
    return None if estimate is None else estimate["value"]


MEASURES = (
    Measure("Hessian measure Σ √(C h_i / n)", lambda audit: audit["bound"]["measure"]),
    Measure("Hessian distance Σ v_iᵀ H_i⁺ v_i", lambda audit: _value(audit["totals"]["hessian_distance_psd"])),
    Measure("distance form Σ √(C α_i² tr_i / n)", lambda audit: audit["bound"]["distance_measure"]),
    Measure("distance from the start", lambda audit: audit["totals"]["l2"]),
    Measure("trace of the Hessian", lambda audit: _value(audit["totals"]["trace"])),
    Measure("λ_max of the Hessian", lambda audit: _value(audit["totals"]["lambda_max"])),
    Measure("product of spectral norms", lambda audit: audit["totals"]["spectral_product"]),
)


@dataclass(frozen=True)
class Cell:
    """One run: a variant, the images of each class, a seed."""

    variant: str
    shots: int
    seed: int

    @property
    def folder(self) -> str:
        """Its run directory under ``--out``."""
        return f"{self.variant.replace(',', '').replace(' ', '-')}-{self.shots}-seed{self.seed}"

    @property
    def options(self) -> dict[str, Any]:
        """What ``holdfast.fit`` is called with."""
        given = dict(VARIANTS[self.variant])
        epochs = max(1, round(EPOCHS[self.shots] * given.pop("steps", 1)))
        return {**COMMON, "shots": self.shots, "epochs": epochs, "seed": self.seed, "data_seed": self.seed, **given}


class Correlation(NamedTuple):
    """Rank correlations of a measure with the gap, over ``n`` runs."""

    kendall: float
    spearman: float
    n: int


def cells() -> Iterator[Cell]:
    """All of them, seed by seed, so that a part of them is balanced."""
    return (Cell(variant, shots, seed) for seed in SEEDS for shots in SHOTS for variant in VARIANTS)


def run(cell: Cell, out: Path) -> str:
    """Train and audit what is not there yet; what took how long."""
    path, began = out / cell.folder, time.monotonic()
    if not (path / "result.json").exists():
        holdfast.fit(resume=path) if (path / "config.yaml").exists() else holdfast.fit(**cell.options, out=path)
    trained = time.monotonic()
    if not (path / "audit.json").exists():
        holdfast.audit(path, **AUDIT)
    return f"{cell.folder}: trained {trained - began:.0f} s, audited {time.monotonic() - trained:.0f} s"


def read(out: Path) -> dict[Cell, dict[str, Any]]:
    """The audits that are there."""
    files = {cell: out / cell.folder / "audit.json" for cell in cells()}
    return {cell: json.loads(file.read_text()) for cell, file in files.items() if file.exists()}


def correlation(audits: Sequence[Mapping[str, Any]], measure: Measure) -> Correlation:
    """Of those runs where the measure is known; NaN where there are fewer than three."""
    pairs = [(value, audit["gap"]["gap"]) for audit in audits if (value := measure.read(audit)) is not None]
    if len(pairs) < 3:
        return Correlation(math.nan, math.nan, len(pairs))
    values, gaps = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return Correlation(float(stats.kendalltau(values, gaps).statistic), float(stats.spearmanr(values, gaps).statistic), len(pairs))


def table(audits: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table: Kendall's τ and Spearman's ρ over all runs, and over the runs with as many images."""
    groups = {"all runs": list(audits.values())}
    groups |= {f"{shots} a class": [audit for cell, audit in audits.items() if cell.shots == shots] for shots in SHOTS}
    groups = {name: group for name, group in groups.items() if len(group) > 2}
    lines = ["| measure | " + " | ".join(f"τ, ρ ({name}, {len(group)})" for name, group in groups.items()) + " |"]
    lines.append("|---" * (len(groups) + 1) + "|")
    for measure in MEASURES:
        found = [correlation(group, measure) for group in groups.values()]
        shown = (f"{one.kendall:+.2f}, {one.spearman:+.2f}" if one.n > 2 else "not measured" for one in found)
        lines.append(f"| {measure.name} | " + " | ".join(shown) + " |")
    return lines


def bounds(audits: Sequence[Mapping[str, Any]]) -> str:
    """How often the bound held, and how often it said anything."""
    known = [audit for audit in audits if audit["bound"] is not None and audit["gap"]["test_loss"] is not None]
    held = sum(audit["gap"]["test_loss"] <= audit["bound"]["bound"] for audit in known)
    vacuous = sum(audit["bound"]["vacuous"] for audit in known)
    ratios = sorted(audit["bound"]["measure"] / audit["gap"]["gap"] for audit in known if audit["gap"]["gap"] > 0)
    middle = f"; measure / gap: median {ratios[len(ratios) // 2]:.1f}, {ratios[0]:.1f} to {ratios[-1]:.1f}" if ratios else ""
    return f"the bound held in {held} of {len(known)} runs, and was vacuous (at least C) in {vacuous}{middle}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--hours", type=float, default=2.0, help="CPU hours after which no further run is started")
    options = parser.parse_args()
    until = time.monotonic() + 3600 * options.hours / options.jobs
    wanted = [cell for cell in cells() if not (options.out / cell.folder / "audit.json").exists()]
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while wanted and time.monotonic() < until:
            now, wanted = wanted[: options.jobs], wanted[options.jobs :]
            for line in pool.map(run, now, [options.out] * len(now)):
                print(line, flush=True)
    audits = read(options.out)
    print(f"\n{len(audits)} of {len(list(cells()))} runs; {len(wanted)} not run\n")
    print("\n".join(table(audits)))
    print(f"\n{bounds(list(audits.values()))}")


if __name__ == "__main__":
    main()
