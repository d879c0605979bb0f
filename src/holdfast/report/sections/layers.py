"""How far each layer moved, and how sharply the loss bends along that move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from holdfast.report.blocks import Block, Cell, Facts, Figures, Plot, Section, Table, Text
from holdfast.report.numbers import amount, estimated, integer, share
from holdfast.report.reading import Estimate, at, entries, number, plain_text
from holdfast.report.sections.results import relative_distance
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, INK, WIDE, draw, label
from holdfast.wording import significant

__all__ = ["layers"]

Layer = Mapping[str, Any]

DRAWN = 40
"""More layers than this are drawn only in part; the table has all."""

FOLDED = 12
MODES = {"block": "each layer's own block of the Hessian", "full_row": "the full row of the Hessian, as in the release of Ju et al."}
HEADS = {"source": " The new head is measured from its initial value.", "zero": " The new head is measured from zero."}
OVER = {
    "mean": "the mean loss",
    "batch": "batches, and of these the largest value",
    "sample": "single examples, and of these the largest value",
}


def layers(subject: Subject) -> Section | None:
    """Distance, curvature and share of the bound by layer; None without an audit, or where no layer was measured."""
    found = entries(at(subject.audit, "layers"))
    if subject.audit is None or not found:
        return None
    drawn = _drawn(found)
    plots = [
        _bars("Distance from the start, by layer", "share of the size of the source weights", drawn, _relative),
        _bars(
            "Curvature along the move, by layer",
            "v'Hv in nats",
            drawn,
            lambda layer: Estimate.of(layer.get("hessian_distance_psd")),
            _plain,
        ),
    ]
    blocks: list[Block] = [Figures([plot for plot in plots if plot is not None])]
    if len(drawn) < len(found):
        blocks.append(
            Text(
                f"Drawn are the {len(drawn)} layers of {len(found)} with the largest curvature along the move, in the order of the network."
            )
        )
    blocks += [_totals(subject.audit), _table(found)]
    settings = subject.audit["settings"]
    return Section(
        "layers",
        "How far it moved, and how sharply",
        "Distance: how far fine-tuning carried the weights from their start. Curvature along the move: how strongly the loss bends on the "
        "straight way back; where it is large, a small step off loses much. Bars count positive curvature only, as the bound does; rings "
        "are the plain value, which may be negative.",
        f"Measured on {integer(settings['samples'])} training examples, of "
        f"{OVER.get(plain_text(settings['over']), plain_text(settings['over']))}, with "
        f"{MODES.get(plain_text(settings['mode']), plain_text(settings['mode']))}. Rescaling weights in front of a normalization layer "
        "changes these numbers and not the network, so compare runs of one network only. For convolutions, row sum and spectral norm "
        f"are those of the kernel as a matrix.{HEADS.get(plain_text(settings['head']), '')}",
        blocks,
    )


def _drawn(found: Sequence[Layer]) -> Sequence[Layer]:
    def curvature(position: int) -> float:
        return Estimate.of(found[position].get("hessian_distance_psd")).value or 0.0

    kept = sorted(range(len(found)), key=curvature, reverse=True)[:DRAWN]
    return [found[position] for position in sorted(kept)]


def _relative(layer: Layer) -> Estimate:
    moved, size = number(layer.get("frob")), number(layer.get("norm_frob"))
    return Estimate(moved / size if moved is not None and size else None)


def _name(layer: Layer) -> str:
    """The layer itself, since every measured tensor of one is its weight."""
    return plain_text(layer.get("name")).removesuffix(".weight")


def _plain(layer: Layer) -> float | None:
    return Estimate.of(layer.get("hessian_distance")).value


def _bars(
    title: str, unit: str, found: Sequence[Layer], value: Callable[[Layer], Estimate], ring: Callable[[Layer], float | None] | None = None
) -> Plot | None:
    """A bar for each layer, the first on top; None where no layer has a value."""
    estimates = [value(layer) for layer in found]
    known = [estimate.value for estimate in estimates if estimate.value is not None]
    if not known:
        return None
    names = [label(_name(layer)) for layer in found]
    places = range(len(found))

    def paint(axes: Axes) -> None:
        widths = [estimate.value or 0.0 for estimate in estimates]
        errors = [estimate.half_width or 0.0 for estimate in estimates]
        axes.barh(places, widths, xerr=errors if any(errors) else None, color="#7fb2d5", edgecolor=COLORS[0], linewidth=0.6, ecolor=INK)
        rings = [(ring(layer), place) for place, layer in enumerate(found)] if ring else []
        points = [(across, place) for across, place in rings if across is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o", markerfacecolor="none", markeredgecolor=COLORS[1], markersize=5)
        axes.set_yticks(places, names, fontsize=8.5)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
        axes.tick_params(axis="y", length=0)

    largest = max(range(len(found)), key=lambda place: estimates[place].value or 0.0)
    told = f"largest in {names[largest]}, {significant(estimates[largest].value)}"
    return draw(
        title,
        f"Bar chart with a bar for each of {len(found)} layers: {told}; the table below has all.",
        paint,
        (WIDE[0], 1.1 + 0.22 * len(found)),
    )


def _totals(audit: Mapping[str, Any]) -> Facts:
    totals = audit["totals"]
    bn = [value for value in (number(entry.get("max_abs")) for entry in entries(audit["batchnorm"])) if value is not None]
    rows = [
        (
            "Distance over the measured layers",
            f"{amount(totals['l2'])} (Frobenius), {share(relative_distance(audit))} of the source's size",
        ),
        ("Distance over all weights, biases and norms included", amount(totals["l2_total"])),
        ("Curvature along the move, positive part", _with_flag(totals["hessian_distance_psd"])),
        ("Curvature along the move, plain", _with_flag(totals["hessian_distance"])),
        ("Trace of the Hessian", _with_flag(totals["trace"])),
        ("Trace of its positive part", _with_flag(totals["trace_psd"])),
        ("Product of spectral norms of the moves", amount(totals["spectral_product"])),
        ("Largest change of a BatchNorm factor", significant(max(bn)) if bn else "-"),
    ]
    return Facts("Over all layers; ± is half of a 95 % interval", [row for row in rows if not row[1].startswith("-")])


def _with_flag(entry: Any) -> str:
    cell = estimated(entry)
    return f"{cell.text} (not as exact as asked)" if cell.flag else cell.text


def _table(found: Sequence[Layer]) -> Table:
    columns = ("layer", "weights", "distance", "relative", "row sum", "spectral", "trace", "v'H⁺v", "v'Hv", "share of the bound")
    rows = [_row(layer) for layer in found]
    folded = f"All {len(found)} layers in numbers" if len(found) > FOLDED else ""
    return Table("Layers in the order of the network; ± is half of a 95 % interval", columns, rows, folded=folded)


def _row(layer: Layer) -> list[Cell | str]:
    term = share(layer.get("bound_share")) + (" (clipped)" if layer.get("clipped") is True else "")
    distances = [amount(layer.get("frob")), share(_relative(layer).value), amount(layer.get("infop")), amount(layer.get("spectral"))]
    curvature = [estimated(layer.get(key)) for key in ("trace", "hessian_distance_psd", "hessian_distance")]
    return [_name(layer), integer(layer.get("parameters")), *distances, *curvature, term]
