"""Whether confidence keeps its word: of predictions made with 80 %, are 80 % right?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from holdfast.report.blocks import Block, Figures, Plot, Section, Table
from holdfast.report.numbers import amount, integer, interval_text
from holdfast.report.reading import at, entries, number, whole
from holdfast.report.scores import Bin, expected_error, wilson
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, GREY, draw, legend_above
from holdfast.wording import percent

__all__ = ["calibration"]


def calibration(subject: Subject) -> Section | None:
    """From stored predictions, else from the audit; None without either."""
    scores, record = subject.scores, at(subject.audit, "calibration")
    if scores is not None:
        bins, split, n = scores.bins(), scores.split, scores.n
    else:
        bins, split, n = _bins(record), str(at(record, "split") or "test"), whole(at(record, "n")) or 0
    error = expected_error(bins)
    if error is None:
        return None
    chance = (
        "" if scores is None else f" So few examples would show about {percent(scores.chance_error())} even if every confidence were exact."
    )
    blocks: list[Block] = [Figures([_diagram(bins), _histogram(bins)]), _table(bins)]
    return Section(
        "calibration",
        "Can its confidence be believed?",
        f"On the {split} split confidence and accuracy differ by {percent(error)} on average ({_direction(bins)}).{chance}",
        f"The error depends on how predictions are put into bins and comes out too large for small samples; this one has {integer(n)} "
        "examples. It says nothing of examples of another kind, where networks are usually too sure.",
        blocks,
    )


def _bins(record: object) -> list[Bin]:
    found = []
    for entry in entries(at(record, "bins")):
        low, high, n = number(entry.get("low")), number(entry.get("high")), whole(entry.get("n"))
        if low is not None and high is not None and n is not None:
            found.append(Bin(low, high, n, number(entry.get("confidence")), number(entry.get("accuracy"))))
    return found


def _filled(bins: Sequence[Bin]) -> list[tuple[Bin, float, float]]:
    return [(entry, entry.confidence, entry.accuracy) for entry in bins if entry.confidence is not None and entry.accuracy is not None]


def _direction(bins: Sequence[Bin]) -> str:
    """Whether the network is too sure or not sure enough, over all predictions."""
    filled = _filled(bins)
    total = sum(entry.n for entry, _, _ in filled)
    excess = sum(entry.n * (confidence - accuracy) for entry, confidence, accuracy in filled) / total
    if abs(excess) < 0.01:
        return "neither too sure nor too unsure over all predictions"
    return f"{'too sure' if excess > 0 else 'not sure enough'} by {percent(abs(excess))} over all predictions"


def _diagram(bins: Sequence[Bin]) -> Plot:
    filled = _filled(bins)

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), label="confidence keeps its word")
        for entry, confidence, accuracy in filled:
            low, high = wilson(accuracy * entry.n, entry.n) or (accuracy, accuracy)
            axes.plot([confidence, confidence], [low, high], color=COLORS[0], linewidth=1.2)
        axes.plot(
            [confidence for _, confidence, _ in filled],
            [accuracy for _, _, accuracy in filled],
            "o",
            color=COLORS[0],
            label="accuracy, 95 % interval",
        )
        _share_axes(axes)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        legend_above(axes)

    top = filled[-1]
    told = f"in the highest of {len(filled)} filled bins, confidence is {percent(top[1])} and accuracy {percent(top[2])}"
    return draw("Accuracy by confidence", f"Reliability diagram: {told}; all bins are in the table below.", paint)


def _histogram(bins: Sequence[Bin]) -> Plot:
    def paint(axes: Axes) -> None:
        axes.bar([entry.low for entry in bins], [entry.n for entry in bins], [entry.high - entry.low for entry in bins], align="edge",
                 color="#a6c8e0", edgecolor=COLORS[0], linewidth=0.8)  # fmt: skip
        _share_axes(axes)
        axes.set_ylabel("examples")

    most = max(bins, key=lambda entry: entry.n)
    told = f"most, {integer(most.n)}, are made with {100 * most.low:.0f} to {100 * most.high:.0f} % confidence"
    return draw("How sure it is", f"Histogram of the confidence of predictions: {told}.", paint)


def _share_axes(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("confidence")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _table(bins: Sequence[Bin]) -> Table:
    rows = [
        [
            f"{100 * entry.low:.0f} to {100 * entry.high:.0f} %",
            integer(entry.n),
            percent(confidence),
            percent(accuracy),
            interval_text(wilson(accuracy * entry.n, entry.n)),
            amount(accuracy - confidence, 2),
        ]
        for entry, confidence, accuracy in _filled(bins)
    ]
    columns = ("confidence", "examples", "mean confidence", "accuracy", "95 % interval", "difference")
    return Table("Predictions by confidence", columns, rows, folded="The bins in numbers")
