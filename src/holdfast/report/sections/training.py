"""How training went: losses by term, accuracy, learning rate, and features over the epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from holdfast.report.blocks import Block, Cell, Figures, Plot, Section, Table
from holdfast.report.numbers import amount, integer, share
from holdfast.report.reading import at, number, whole
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, INK, NARROW, draw, label, legend_above
from holdfast.wording import percent, significant

__all__ = ["features_over_time", "training"]

Rows = Sequence[Mapping[str, object]]
FAR = 30.0
"""A ratio of largest to smallest value beyond which a logarithmic axis shows more."""

DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


@dataclass(frozen=True)
class Curve:
    """A number by epoch."""

    name: str
    values: Sequence[float | None]


def training(subject: Subject) -> Section | None:
    """Curves of ``history.csv``; None where there is none."""
    rows = subject.run.history if subject.run else []
    if not rows:
        return None
    epochs = _column(rows, "epoch")
    chosen = whole(at((subject.result["selections"] or [None])[0], "epoch"))
    plots = [
        _curves("Loss by epoch", "loss in nats", epochs, _losses(rows, subject.result["terms"])),
        _curves("Accuracy by epoch", "accuracy", epochs, _accuracies(rows), mark=chosen, shares=True),
        _curves("Learning rate by epoch", "learning rate", epochs, [Curve("learning rate", _column(rows, "lr"))]),
    ]
    blocks: list[Block] = [Figures([plot for plot in plots if plot is not None]), _table(rows)]
    return Section(
        "training",
        "How training went",
        "The loss that was minimised, with what each term of the objective adds to it (its weight included), and the accuracy. Training "
        "has converged where the curves are flat; it overfits where training goes on improving and validation gets worse.",
        "Training numbers are means over an epoch in which the weights still change, on augmented images, so validation may lie above "
        "them. Small steps up and down of validation are the luck of few examples.",
        blocks,
    )


def features_over_time(subject: Subject) -> Section | None:
    """Curves of ``features.csv``; None where there is none."""
    rows = subject.run.features if subject.run else []
    if not rows:
        return None
    epochs = _column(rows, "epoch")

    def curves(*names: str) -> list[Curve]:
        return [Curve(name.replace("_", " "), _column(rows, name)) for name in names if any(_column(rows, name))]

    plots = [
        _curves("Size of the features", "Euclidean norm", epochs, curves("feature_norm", "norm_of_mean_feature")),
        _curves("Spread of the features", "nats", epochs, curves("entropy", "conditional_entropy", "mutual_information")),
        _curves("Pull on the head", "gradient norm", epochs, curves("gradient_norm")),
    ]
    return Section(
        "features-by-epoch",
        "Features during training",
        f"What fine-tuning does to the features in front of the head, on {integer(rows[0].get('examples'))} training examples; epoch 0 is "
        "the pretrained network. Entropy tells how widely the features spread, conditional entropy how widely within a class, mutual "
        "information the difference: how well they tell classes apart.",
        "The entropies are biased and depend on the number of examples and the scale of the features: compare epochs and methods on the "
        "same data and network, and read nothing into a single value.",
        [Figures([plot for plot in plots if plot is not None])],
    )


def _column(rows: Rows, name: str) -> list[float | None]:
    return [number(row.get(name)) for row in rows]


def _losses(rows: Rows, terms: Mapping[str, Mapping[str, object]]) -> list[Curve]:
    """The whole loss, what each term adds to it where there are several, and the loss of validation."""
    curves = [Curve("training, in all", _column(rows, "loss"))]
    if len(terms) > 1:
        for name, term in terms.items():
            weight = number(term.get("weight"))
            scaled = [None if weight is None or value is None else weight * value for value in _column(rows, name)]
            curves.append(Curve(name if weight == 1 else f"{significant(weight)} × {name}", scaled))
    return [*curves, Curve("validation", _column(rows, "val_loss"))]


def _accuracies(rows: Rows) -> list[Curve]:
    names = (("training", "train_accuracy"), ("validation", "val_accuracy"), ("test (optimistic)", "test_accuracy"))
    return [Curve(name, _column(rows, column)) for name, column in names]


def _curves(
    title: str, unit: str, epochs: Sequence[float | None], curves: Sequence[Curve], *, mark: int | None = None, shares: bool = False
) -> Plot | None:
    """Lines by epoch; None where no curve has a value."""
    shown = [curve for curve in curves if any(value is not None for value in curve.values)]
    if not shown:
        return None
    values = [value for curve in shown for value in curve.values if value is not None]
    logarithmic = min(values) > 0 and max(values) / min(values) > FAR and not shares

    def paint(axes: Axes) -> None:
        for position, curve in enumerate(shown):
            points = [(epoch, value) for epoch, value in zip(epochs, curve.values, strict=True) if epoch is not None and value is not None]
            color = INK if position == 0 else COLORS[(position - 1) % len(COLORS)]
            marker = "o" if len(points) <= 15 else ""
            axes.plot(
                *zip(*points, strict=True), color=color, linestyle=DASHES[position % len(DASHES)], marker=marker, label=label(curve.name)
            )
        if mark is not None:
            axes.axvline(mark, color="#8c959f", linewidth=1, linestyle=(0, (2, 2)), label="kept weights")
        _axes(axes, unit, logarithmic=logarithmic, shares=shares)
        if len(shown) > 1 or mark is not None:
            legend_above(axes)

    return draw(title, _told(title, epochs, shown, percent if shares else significant), paint, NARROW)


def _axes(axes: Axes, unit: str, *, logarithmic: bool, shares: bool) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    if logarithmic or shares:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %" if shares else significant(value)))


def _told(title: str, epochs: Sequence[float | None], curves: Sequence[Curve], words: Callable[[float], str]) -> str:
    """Where each curve begins and ends."""
    parts = []
    for curve in curves:
        points = [(epoch, value) for epoch, value in zip(epochs, curve.values, strict=True) if epoch is not None and value is not None]
        if points:
            (first, start), (last, end) = points[0], points[-1]
            parts.append(f"{curve.name} goes from {words(start)} in epoch {first:g} to {words(end)} in epoch {last:g}")
    return f"Line chart, {title[:1].lower()}{title[1:]}: {'; '.join(parts)}."


def _table(rows: Rows) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells: list[list[Cell | str]] = [[_shown(column, row.get(column)) for column in columns] for row in rows]
    return Table("One row an epoch, from history.csv", columns, cells, folded="All numbers by epoch")


def _shown(column: str, value: object) -> str:
    if column in ("epoch", "step"):
        return integer(value)
    return share(value) if column.endswith("accuracy") else amount(value)
