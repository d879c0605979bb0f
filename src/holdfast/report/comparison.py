"""Several runs in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.report.blocks import Block, Cell, Section, Table, Text
from holdfast.report.numbers import accuracy_interval, amount, estimated, share, with_error
from holdfast.report.reading import at, number, numbers
from holdfast.report.sections.results import loss_of, relative_distance
from holdfast.report.subject import Subject
from holdfast.wording import decimal, duration, percent

__all__ = ["comparison"]


def comparison(subjects: Sequence[Subject], titles: Sequence[str]) -> Section:
    """The runs side by side, and what keeps them from being compared."""
    low, high = _range(subjects)
    ends = f"from {percent(low, 0)} to {percent(high, 0)}"
    columns = ("run", "method", "split", "accuracy (95 % interval)", ends, "loss (NLL, nats)", "ECE", "time")
    rows = [_row(subject, title, low, high) for subject, title in zip(subjects, titles, strict=True)]
    blocks: list[Block] = [Text(sentence) for sentence in _warnings(subjects)]
    blocks.append(Table("Results; ± is half of a 95 % interval", columns, rows, text_columns=(1, 2)))
    if any(subject.audit is not None for subject in subjects):
        blocks.append(_audits(subjects, titles))
    return Section(
        "comparison",
        "Comparison",
        f"One line a run; each has a part of its own below. {_networks(subjects)}",
        "The intervals cover the luck of the test examples, not that of the seed: with one run a method, a difference may be luck of the "
        "training even where intervals do not overlap. Repeat each method over several seeds before you prefer one. The best of many runs "
        "looks better than it is.",
        blocks,
    )


def _networks(subjects: Sequence[Subject]) -> str:
    names = list(dict.fromkeys(subject.network for subject in subjects))
    return f"All fine-tune {names[0]}." if len(names) == 1 else f"They fine-tune different networks: {', '.join(names)}."


def _row(subject: Subject, title: str, low: float, high: float) -> list[Cell | str]:
    split = subject.judged
    metrics = subject.metrics.get(split) if split else None
    interval = [number(end) for end in at(metrics, "accuracy_ci95") or ()]
    accuracy = number(at(metrics, "accuracy"))
    drawing: Cell | str = "-"
    if accuracy is not None and len(interval) == 2 and None not in interval:
        places = [(value - low) / (high - low) for value in (interval[0] or 0.0, accuracy, interval[1] or 0.0)]
        drawing = Cell("", low=places[0], middle=places[1], high=places[2])
    loss = loss_of(subject) if subject.scores is not None and subject.scores.split == split else None
    seconds = number(at(subject.result, "cost", "seconds_total"))
    return [
        title,
        subject.method,
        split or "-",
        accuracy_interval(accuracy, at(metrics, "accuracy_ci95")),
        drawing,
        with_error(loss) if loss else decimal(number(at(metrics, "nll"))),
        decimal(number(at(metrics, "ece"))),
        duration(seconds) if seconds is not None else "-",
    ]


def _range(subjects: Sequence[Subject]) -> tuple[float, float]:
    """The ends that the drawn intervals share: full tenths around all of them."""
    ends = [
        end
        for subject in subjects
        for end in numbers(list(at(subject.metrics, subject.judged or "", "accuracy_ci95") or ()))
        if end is not None
    ]
    if not ends:
        return 0.0, 1.0
    low, high = int(10 * min(ends)) / 10, -int(-10 * max(ends)) / 10
    return low, min(1.0, high if high > max(ends) else high + 0.1)


def _audits(subjects: Sequence[Subject], titles: Sequence[str]) -> Table:
    columns = ("run", "gap, nats", "moved", "v'H⁺v", "trace", "largest eigenvalue", "sum over layers", "bound")
    rows = [[title, *_audit_row(subject)] for subject, title in zip(subjects, titles, strict=True)]
    return Table("Audits; ± is half of a 95 % interval", columns, rows)


def _audit_row(subject: Subject) -> Iterator[Cell | str]:
    audit = subject.audit
    yield amount(at(audit, "gap", "gap"))
    yield share(relative_distance(audit))
    for key in ("hessian_distance_psd", "trace", "lambda_max"):
        yield estimated(at(audit, "totals", key))
    yield amount(at(audit, "bound", "measure"))
    vacuous = at(audit, "bound", "vacuous") is True
    yield Cell(amount(at(audit, "bound", "bound")), "vacuous" if vacuous else "")


def _warnings(subjects: Sequence[Subject]) -> Iterator[str]:
    """What differs between the runs beside what one wants to compare."""
    if (
        len(_known(at(subject.result, "data", "fingerprint") or at(subject.audit, "subject", "data_fingerprint") for subject in subjects))
        > 1
    ):
        yield "These runs have different data or splits, so their accuracies are not about the same examples: do not compare them."
    if len(_known(at(subject.result, "model", "reference_fingerprint") for subject in subjects)) > 1:
        yield "They start from different pretrained weights: distances and curvatures do not compare."
    if len({subject.judged for subject in subjects} - {None}) > 1:
        yield "Not all were judged on the same kind of split; see the column 'split'."


def _known(values: Iterator[object] | Sequence[object]) -> set[object]:
    return {value for value in values if isinstance(value, str)}
