"""The whole page: which sections, in which order, as HTML with every text escaped."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import jinja2
from markupsafe import Markup

from holdfast.report.blocks import Highlight, Section
from holdfast.report.comparison import comparison
from holdfast.report.sections.bound import bound, gap
from holdfast.report.sections.calibration import calibration
from holdfast.report.sections.classes import classes
from holdfast.report.sections.closing import cost, notes, repeat
from holdfast.report.sections.features import features
from holdfast.report.sections.layers import layers
from holdfast.report.sections.results import highlights, results
from holdfast.report.sections.spectrum import spectrum
from holdfast.report.sections.stability import stability
from holdfast.report.sections.training import features_over_time, training
from holdfast.report.subject import Subject
from holdfast.report.svg import with_ids

__all__ = ["render"]

ORDER = (
    results,
    training,
    classes,
    calibration,
    gap,
    layers,
    spectrum,
    stability,
    bound,
    features,
    features_over_time,
    notes,
    cost,
    repeat,
)
"""Sections of a directory; each is None where there is nothing to show."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Part:
    """What the page says of one directory."""

    anchor: str
    title: str
    about: str
    highlights: Sequence[Highlight]
    sections: Sequence[Section]


def render(subjects: Sequence[Subject]) -> str:
    """The page of one or several directories."""
    titles = _titles(subjects)
    parts = [_part(subject, title, f"run-{place}") for place, (subject, title) in enumerate(zip(subjects, titles, strict=True), start=1)]
    several = len(parts) > 1
    overview = comparison(subjects, titles) if several else None
    contents = [(section.name, section.title) for section in parts[0].sections]
    if overview:
        contents = [(overview.name, overview.title), *((part.anchor, part.title) for part in parts)]
    numbers = itertools.count(1)
    return _environment().get_template("page.html.jinja").render(
        title=f"{len(parts)} runs" if several else parts[0].title,
        about="Side by side, then one by one" if several else parts[0].about,
        contents=contents,
        comparison=overview,
        parts=parts,
        folders=[str(subject.path) for subject in subjects],
        version=metadata.version("holdfast"),
        next_prefix=lambda: f"f{next(numbers)}",
    )  # fmt: skip


def _part(subject: Subject, title: str, anchor: str) -> Part:
    sections = [section for make in ORDER if (section := make(subject)) is not None]
    return Part(anchor, title, f"{subject.data} · {subject.network} · {subject.method}", highlights(subject), sections)


def _titles(subjects: Sequence[Subject]) -> list[str]:
    """Names of the directories, or their paths where a name occurs twice."""
    counts = Counter(subject.name for subject in subjects)
    return [subject.name if counts[subject.name] == 1 else str(subject.path) for subject in subjects]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("holdfast.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["with_ids"] = with_ids
    return environment


def _printable(value: Any) -> Any:
    """Texts without signs that HTML does not allow; everything else, drawings included, as it is."""
    return _UNPRINTABLE.sub("\ufffd", value) if isinstance(value, str) and not isinstance(value, Markup) else value
