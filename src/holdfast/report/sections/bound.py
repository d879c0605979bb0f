"""What the Hessian-based bound says of the loss on new data, beside the difference that was observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from holdfast.report.blocks import Block, Facts, Points, Section, Table, Text
from holdfast.report.numbers import accuracy_interval, amount, integer
from holdfast.report.reading import at, number, plain_text
from holdfast.report.subject import Subject
from holdfast.wording import significant

__all__ = ["bound", "gap"]

CEILINGS = {
    "max_observed": "the largest loss seen; cross-entropy has no largest one, so this is an estimate",
    "given": "as given",
    "clipped": "from the smallest probability that counts",
}


def gap(subject: Subject) -> Section | None:
    """Training against held-out examples; None where neither was measured."""
    record = at(subject.audit, "gap")
    if number(at(record, "train_loss")) is None:
        return None
    held_out = plain_text(at(record, "split")) or "held-out"
    rows = [
        [name, integer(at(record, f"n_{key}")), amount(at(record, f"{key}_loss")), _accuracy(record, key)]
        for name, key in (("train", "train"), (held_out, "test"))
    ]
    if number(at(record, "test_loss")) is None:
        rows = rows[:1]
    found = number(at(record, "gap"))
    meaning = (
        f"On the {held_out} split the loss is {significant(found)} nats {'higher' if (found or 0) >= 0 else 'lower'} than in training."
        if found is not None
        else ""
    )
    return Section(
        "gap",
        "How much worse it is on new examples",
        " ".join(filter(None, [meaning, "This difference, the generalization gap, is what the bound further down tries to bound."])),
        "It was observed on these examples; others would give another value, the more so the fewer they are. A gap near 0 is good news "
        "only together with a low loss.",
        [
            Table(
                "The selected weights, in eval mode and without augmentation",
                ("split", "examples", "loss, nats", "accuracy (95 % interval)"),
                rows,
            )
        ],
    )


def bound(subject: Subject) -> Section | None:
    """The bound with its terms and assumptions; None where it was not computed."""
    record = at(subject.audit, "bound")
    if not isinstance(record, Mapping) or number(record.get("bound")) is None:
        return None
    blocks: list[Block] = [
        Text(_verdict(record, len(subject.classes), number(at(subject.audit, "gap", "test_loss")))),
        Facts("How the bound comes about", _terms(record, at(subject.audit, "gap"))),
    ]
    assumptions = record.get("assumptions")
    if isinstance(assumptions, list) and assumptions:
        blocks.append(Points("What it assumes, and what was left out", [plain_text(sentence) for sentence in assumptions]))
    return Section(
        "bound",
        "What a bound promises",
        "A generalization bound is a promise about data not seen: with probability 0.99 over the choice of training examples, the expected "
        "loss is no larger than this, given the assumptions below. It is built from the distance moved and the curvature along it.",
        "Bounds are made to hold, not to be near: one much larger than the observed loss is normal, and no sign of a bad network. The "
        "sum over layers may still rank runs of one network on the same data.",
        blocks,
    )


def _accuracy(record: Mapping[str, Any], split: str) -> str:
    return accuracy_interval(record.get(f"{split}_accuracy"), record.get(f"{split}_accuracy_ci95"))


def _verdict(record: Mapping[str, Any], classes: int, test_loss: float | None) -> str:
    """What the bound says, in words; plainly when it says nothing, or what is not so."""
    value, ceiling = amount(record.get("bound")), amount(record.get("C"))
    if record.get("vacuous") is not False:
        return (
            f"This bound is vacuous: it says that the expected loss is at most {value} nats, but no example is expected to lose more than "
            f"{ceiling} anyway. So it says nothing about how well this network will do on new data; the test accuracy does."
        )
    promise = (
        f"Under the assumptions below, the expected loss on new data is at most {value} nats, where {ceiling} would be the worst possible"
    )
    if test_loss is not None and test_loss > (number(record.get("bound")) or math.inf):
        return f"{promise}. But on the test split it is {amount(test_loss)}, which is more: the assumptions do not hold for this network."
    if classes > 1 and (number(record.get("bound")) or 0.0) >= math.log(classes):
        guessing = amount(math.log(classes))
        return f"{promise}. Guessing among the {classes} classes loses {guessing}, so the promise is an empty one all the same."
    return f"{promise}."


def _terms(record: Mapping[str, Any], gap_record: Any) -> list[tuple[str, str]]:
    measure, observed = number(record.get("measure")), number(at(gap_record, "gap"))
    ceiling_from = CEILINGS.get(plain_text(record.get("C_from")), plain_text(record.get("C_from")))
    compared = f"; the observed gap is {significant(observed)}" if observed is not None else ""
    rows = [
        (
            "Bound on the expected loss",
            f"{amount(record.get('bound'))} nats = (1 + {amount(record.get('eps'))}) × (training loss + sum over layers)",
        ),
        ("Training loss", f"{amount(record.get('empirical_loss'))} nats, on {integer(record.get('n'))} training examples"),
        ("Sum over layers of √(C v'H⁺v / n)", f"{amount(measure)} nats{compared}"),
        ("The same with the constant of the proof", f"{amount(record.get('tight'))} nats"),
        ("Largest possible loss, C", f"{amount(record.get('C'))} nats, {ceiling_from}"),
        ("Factor for label noise", amount(record.get("rho"))),
        ("Bound from distance and trace instead", amount(record.get("distance_bound"))),
    ]
    return [(name, text) for name, text in rows if not text.startswith("-")]
