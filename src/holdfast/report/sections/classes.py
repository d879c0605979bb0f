"""Accuracy by class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.report.blocks import Block, Cell, Section, Table, Text
from holdfast.report.numbers import integer, interval_text
from holdfast.report.scores import Scores, wilson
from holdfast.report.subject import Subject
from holdfast.wording import percent

__all__ = ["classes"]

FEW = 12
"""So many classes fit side by side into a matrix."""

SHOWN, CONFUSED, LISTED = 20, 15, 1000


def classes(subject: Subject) -> Section | None:
    """By class and by pair of classes; None without stored predictions."""
    scores = subject.scores
    if scores is None:
        return None
    names = [*subject.classes, *(f"class {number}" for number in range(len(subject.classes), scores.classes))]
    blocks = [*_by_class(scores, names), *_mixed_up(scores, names)]
    if scores.left_out:
        blocks.append(Text(f"{integer(scores.left_out)} examples are left out: their logits are not finite, or their label is no class."))
    return Section(
        "classes",
        "Which classes are hard",
        f"Accuracy of each class on the {scores.split} split, and which classes are taken for which.",
        "A class with few examples has a wide interval: two classes whose intervals overlap much are not told apart by these data. The "
        "worst of many classes looks worse than it is, since the least lucky one is picked.",
        blocks,
    )


def _by_class(scores: Scores, names: list[str]) -> Iterator[Block]:
    """All classes; where they are many, the lowest ones first and the others behind a line."""
    counts = scores.by_class()
    order = list(range(len(counts)))
    columns = ("class", "examples", "right", "accuracy", "95 % interval", "from 0 to 100 %")
    if len(order) > SHOWN:
        measured = [number for number in order if counts[number][1]]
        lowest = sorted(measured, key=lambda number: (counts[number][0] / counts[number][1], -counts[number][1], number))[:SHOWN]
        yield Table(f"The {len(lowest)} classes with the lowest accuracy", columns, [_row(names[at], *counts[at]) for at in lowest])
        order = order[:LISTED]
    caption = "Accuracy by class" + (f", the first {LISTED} of {len(counts)}" if len(counts) > LISTED else "")
    folded = f"All {len(counts)} classes" if len(counts) > SHOWN else ""
    yield Table(caption, columns, [_row(names[at], *counts[at]) for at in order], folded=folded)


def _row(name: str, right: int, n: int) -> list[Cell | str]:
    interval = wilson(right, n)
    if interval is None:
        return [name, "0", "0", "-", "-", "-"]
    low, high = interval
    return [name, integer(n), integer(right), percent(right / n), interval_text(interval), Cell("", low=low, middle=right / n, high=high)]


def _mixed_up(scores: Scores, names: list[str]) -> Iterator[Block]:
    if 1 < scores.classes <= FEW:
        yield _matrix(scores, names)
        return
    pairs = scores.confusions(CONFUSED)
    if not pairs:
        yield Text("No example was taken for another class.")
        return
    totals = dict(enumerate(n for _, n in scores.by_class()))
    rows = [[names[pair.true], names[pair.predicted], integer(pair.n), percent(pair.n / totals[pair.true])] for pair in pairs]
    yield Table("The most frequent confusions", ("true class", "taken for", "times", "share of the true class"), rows, text_columns=(1,))


def _matrix(scores: Scores, names: list[str]) -> Table:
    counts = scores.matrix
    rows: list[list[Cell | str]] = []
    for true, line in enumerate(counts.tolist()):
        total = sum(line)
        cells = [Cell(str(n) if n else "·", shade=n / total if total else 0.0) for n in line]
        rows.append([names[true], *cells])
    return Table("Confusion matrix: a row for each true class, a column for each predicted one", ("true ↓  predicted →", *names), rows)
