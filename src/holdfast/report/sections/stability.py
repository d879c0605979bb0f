"""How the loss grows when the weights are shaken, and whether second derivatives foresee it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from holdfast.report.blocks import Cell, Figures, Plot, Section, Table
from holdfast.report.numbers import amount, with_error
from holdfast.report.reading import Estimate, at, entries, number
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, draw, legend_above
from holdfast.wording import significant

__all__ = ["stability"]

FAITHFUL = (0.8, 1.25)
"""Between these ratios of measured to predicted the second-order picture is called faithful."""


class Point(NamedTuple):
    """Noise of one scale: how the mean loss grew, and how second derivatives foresee it."""

    sigma: float
    mean: Estimate
    predicted: float | None
    ratio: float | None


def stability(subject: Subject) -> Section | None:
    """The curve of noise stability; None where it was not measured."""
    points = [_point(entry) for entry in entries(at(subject.audit, "noise_stability")) if number(entry.get("sigma")) is not None]
    points = [point for point in points if point.mean.known]
    if not points:
        return None
    rows: list[list[Cell | str]] = [
        [significant(point.sigma), with_error(point.mean), amount(point.predicted), amount(point.ratio)] for point in points
    ]
    columns = ("noise (standard deviation)", "growth of the loss, nats", "predicted", "measured / predicted")
    return Section(
        "stability",
        "How much shaking the weights can take",
        f"Gaussian noise is added to every measured weight; shown is by how much the mean training loss grows. {_verdict(points)}",
        "The prediction takes the loss for a parabola; with ReLU or max-pooling, or far away, it is none. Where measured and predicted "
        "differ, curvature, and with it the bound, describes the network only very near its weights.",
        [Figures([_curve(points)]), Table("Growth of the loss under noise; ± is half of a 95 % interval", columns, rows)],
    )


def _point(entry: Mapping[str, object]) -> Point:
    mean = Estimate(number(entry.get("mean")), number(entry.get("stderr")))
    return Point(number(entry.get("sigma")) or 0.0, mean, number(entry.get("second_order")), number(entry.get("ratio")))


def _verdict(points: Sequence[Point]) -> str:
    """Up to which noise the prediction holds."""
    judged = [point for point in points if point.ratio is not None]
    if not judged:
        return "There is no prediction from second derivatives to compare with."
    held = 0
    while held < len(judged) and FAITHFUL[0] <= (judged[held].ratio or 0.0) <= FAITHFUL[1]:
        held += 1
    if held == len(judged):
        return "Second derivatives foresee it within a quarter at every scale measured."
    if held:
        return f"Second derivatives foresee it within a quarter up to a noise of {significant(judged[held - 1].sigma)}, and not beyond."
    return "Second derivatives do not foresee it at any scale measured, so take the curvature on this page with care."


def _curve(points: Sequence[Point]) -> Plot:
    predicted = [(point.sigma, point.predicted) for point in points if point.predicted is not None]
    values = [point.mean.value or 0.0 for point in points] + [up for _, up in predicted]

    def paint(axes: Axes) -> None:
        errors = [point.mean.half_width or 0.0 for point in points]
        axes.errorbar(
            [point.sigma for point in points], [point.mean.value or 0.0 for point in points], errors, fmt="o-", color=COLORS[0], capsize=3,
            label="measured, 95 % interval",
        )  # fmt: skip
        if predicted:
            axes.plot(*zip(*predicted, strict=True), color=COLORS[1], linestyle=(0, (5, 2)), marker="s", markerfacecolor="none",
                      label="predicted from second derivatives")  # fmt: skip
        axes.set_xscale("log")
        if min(values) > 0:
            axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.set_xlabel("noise on each weight (standard deviation)")
        axes.set_ylabel("growth of the loss, nats")
        legend_above(axes)

    first, last = points[0], points[-1]
    told = (
        f"{significant(first.mean.value)} nats at {significant(first.sigma)}, {significant(last.mean.value)} at {significant(last.sigma)}"
    )
    return draw("Growth of the loss under noise", f"Line chart of the growth of the loss by noise scale: {told}.", paint)
