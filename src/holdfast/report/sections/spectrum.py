"""Eigenvalues of the Hessian: the sharpest and most negative ones, and how all of them are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from holdfast.report.blocks import Block, Cell, Facts, Figures, Plot, Section, Table
from holdfast.report.numbers import amount, estimated, share
from holdfast.report.reading import Estimate, at, number, numbers
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, INK, draw, legend_above
from holdfast.wording import significant

__all__ = ["spectrum"]

SHOWN = 1e-5
"""Part of the largest density below which nothing is drawn."""


def spectrum(subject: Subject) -> Section | None:
    """Density and extreme eigenvalues; None where they were not measured."""
    record = at(subject.audit, "spectrum")
    if not isinstance(record, Mapping):
        return None
    top, bottom = _list(record.get("top")), _list(record.get("bottom"))
    density = _density(record, top, bottom)
    blocks: list[Block] = [Figures([density])] if density else []
    if top or bottom:
        blocks.append(_table(top, bottom))
    blocks.append(
        Facts(
            "The spectrum in numbers",
            [
                ("Effective rank", f"{amount(record.get('effective_rank'))}: about so many directions carry the positive curvature"),
                ("Negative eigenvalues", f"{share(record.get('negative_mass'))} of all, as far as so few probes tell"),
                ("Smoothing of the density", f"{amount(record.get('sigma'))} (standard deviation); finer detail is not resolved"),
            ],
        )
    )
    return Section(
        "spectrum",
        "In which directions the loss is sharp",
        "Each eigenvalue is the curvature of the training loss in one direction of weight space. Usually a few large ones, about as "
        "many as there are classes, stand apart from very many near 0, directions that do not matter. Negative ones show that the loss "
        "could still go down: training did not end in a minimum.",
        "The density comes from a few random probes and is smoothed, so its fine structure is not real. Eigenvalues depend on the scale of "
        "the weights: compare runs of one network only.",
        blocks,
    )


def _list(found: Any) -> list[Estimate]:
    estimates = [Estimate.of(entry) for entry in found] if isinstance(found, list) else []
    return [estimate for estimate in estimates if estimate.value is not None]


def _density(record: Mapping[str, Any], top: Sequence[Estimate], bottom: Sequence[Estimate]) -> Plot | None:
    grid, values = numbers(at(record, "density", "grid")), numbers(at(record, "density", "values"))
    points = [(across, up) for across, up in zip(grid, values, strict=False) if across is not None and up is not None and up > 0]
    if len(points) < 2:
        return None
    peak = max(points, key=lambda point: point[1])
    floor = SHOWN * peak[1]
    across, up = [point[0] for point in points], [max(point[1], floor) for point in points]

    def paint(axes: Axes) -> None:
        axes.fill_between(across, up, floor, color="#cfe3f1", linewidth=0)
        axes.plot(across, up, color=COLORS[0], linewidth=1.4)
        axes.set_yscale("log")
        axes.set_ylim(floor, 3 * peak[1])
        for found, color, marker, name in ((top, COLORS[1], "^", "largest eigenvalues"), (bottom, COLORS[3], "v", "smallest eigenvalues")):
            axes.plot([estimate.value or 0.0 for estimate in found], [1.6 * floor] * len(found), marker, color=color, label=name)
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_xlabel("eigenvalue")
        axes.set_ylabel("density, logarithmic")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        if top or bottom:
            legend_above(axes)

    told = f"from {significant(points[0][0])} to {significant(points[-1][0])}, highest at {significant(peak[0])}"
    return draw("How the eigenvalues are spread", f"Density of the eigenvalues of the Hessian, {told}.", paint)


def _table(top: Sequence[Estimate], bottom: Sequence[Estimate]) -> Table:
    rows: list[list[Cell | str]] = []
    for position in range(max(len(top), len(bottom))):
        ends = [found[position] if position < len(found) else Estimate(None) for found in (top, bottom)]
        rows.append([str(position + 1), *(estimated(_entry(end)) for end in ends)])
    return Table("Extreme eigenvalues; ± is half of a 95 % interval", ("rank", "largest", "smallest"), rows)


def _entry(end: Estimate) -> dict[str, Any]:
    return {"value": number(end.value), "stderr": end.stderr, "met": end.met}
