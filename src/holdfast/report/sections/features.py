"""What fine-tuning did to the features: seen along their main directions, and in numbers, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from holdfast.report.blocks import Block, Figures, Legend, LegendEntry, Plot, Section, Table, Text
from holdfast.report.numbers import amount, integer, share
from holdfast.report.reading import at, number, numbers, plain_text
from holdfast.report.subject import Subject
from holdfast.report.svg import COLORS, MARKERS, WIDE, draw
from holdfast.wording import significant

__all__ = ["features"]

SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
OTHERS = "#c9ced4"
DRAWN = 600
"""Points of a view; of more, as many are drawn by lot, the same in both views."""

ROWS = (
    ("norm", "mean norm"),
    ("norm_of_mean", "norm of the mean"),
    ("entropy", "entropy, nats"),
    ("conditional_entropy", "entropy within classes, nats"),
    ("mutual_information", "mutual information, nats"),
    ("gradient_norm", "gradient norm at the head"),
)


class Point(NamedTuple):
    """A feature in a plane, and its class."""

    across: float
    up: float
    label: int


def features(subject: Subject) -> Section | None:
    """Views and numbers before and after; None where features were not measured."""
    record = at(subject.audit, "features")
    if not isinstance(record, Mapping):
        return None
    blocks: list[Block] = [*_views(record, subject.classes), _table(record)]
    left_out = number(record.get("left_out"))
    if left_out:
        blocks.append(Text(f"{integer(left_out)} examples are alone in their class and left out of the entropy within classes."))
    return Section(
        "features",
        "Features before and after",
        f"The features in front of the head on {integer(record.get('examples'))} {plain_text(record.get('split'))} examples, from the "
        f"pretrained and the fine-tuned network; the views are of the {plain_text(at(record, 'pca', 'split'))} split. Classes that form "
        "clusters of their own are easy for the head to tell apart; higher mutual information says the same in a number.",
        "A view has two of many dimensions, those with the largest variance, and each network has its own: positions and distances of "
        "the two views do not compare. Training examples look better separated than new ones. The entropies are biased: compare runs on "
        "the same data only.",
        blocks,
    )


def _views(record: Mapping[str, Any], classes: Sequence[str]) -> list[Block]:
    pca = record.get("pca")
    labels = numbers(at(pca, "labels"))
    kept = sorted(np.random.default_rng(0).permutation(len(labels))[:DRAWN].tolist())
    colored = _colored([labels[row] for row in kept])
    plots = [
        _view(title, _points(at(pca, key), labels, kept), at(pca, key), colored)
        for title, key in (("Before: the pretrained network", "reference"), ("After: the fine-tuned network", "model"))
    ]
    shown = [plot for plot in plots if plot is not None]
    if not shown:
        return []
    entries = [LegendEntry(_name(number, classes), COLORS[place], SIGNS[place]) for place, number in enumerate(colored)]
    if len(set(labels) - {None}) > len(colored):
        entries.append(LegendEntry("all other classes", OTHERS, SIGNS[0]))
    return [Figures(shown), Legend(entries)]


def _colored(labels: Sequence[float | None]) -> list[int]:
    """The classes that get a colour: all, or the most frequent ones where colours do not suffice."""
    counts = Counter(int(value) for value in labels if value is not None)
    most = sorted(counts, key=lambda value: (-counts[value], value))[: len(COLORS)]
    return sorted(most)


def _name(number: int, classes: Sequence[str]) -> str:
    return classes[number] if 0 <= number < len(classes) else f"class {number}"


def _view(title: str, points: Sequence[Point], view: Any, colored: Sequence[int]) -> Plot | None:
    if not points:
        return None
    ratios = [ratio for ratio in numbers(at(view, "explained_variance_ratio")) if ratio is not None]

    def paint(axes: Axes) -> None:
        rest = [point for point in points if point.label not in colored]
        axes.plot([point.across for point in rest], [point.up for point in rest], MARKERS[0], color=OTHERS, markersize=3, markeredgewidth=0)
        for place, own_label in enumerate(colored):
            own = [point for point in points if point.label == own_label]
            axes.plot([point.across for point in own], [point.up for point in own], MARKERS[place], color=COLORS[place], markersize=4,
                      alpha=0.75, markeredgewidth=0)  # fmt: skip
        axes.set_xlabel(_direction("first", ratios[:1]))
        axes.set_ylabel(_direction("second", ratios[1:2]))

    covered = f", which hold {share(sum(ratios))} of the variance" if ratios else ""
    return draw(
        title,
        f"Scatter plot of {len(points)} features along their first two principal directions{covered}, coloured by class.",
        paint,
        (WIDE[0], 4.4),
    )


def _direction(name: str, ratio: Sequence[float]) -> str:
    return f"{name} direction" + "".join(f", {100 * part:.0f} % of the variance" for part in ratio)


def _points(view: Any, labels: Sequence[float | None], kept: Sequence[int]) -> list[Point]:
    found = at(view, "points")
    places = [numbers(entry) for entry in found] if isinstance(found, list) else []
    points = []
    for row in kept:
        place, own_label = places[row] if row < len(places) else [], labels[row]
        if len(place) == 2 and place[0] is not None and place[1] is not None and own_label is not None:
            points.append(Point(place[0], place[1], int(own_label)))
    return points


def _table(record: Mapping[str, Any]) -> Table:
    rows = [[name, *_before_and_after(record.get(key))] for key, name in ROWS]
    return Table("Features in numbers", ("measure", "before", "after", "change"), rows)


def _before_and_after(entry: Any) -> list[str]:
    before, after = number(at(entry, "reference")), number(at(entry, "model"))
    change = f"{'+' if after - before >= 0 else ''}{significant(after - before)}" if before is not None and after is not None else "-"
    return [amount(before), amount(after), change]
