"""The whole page: which sections, in which order, as HTML with every text escaped."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import jinja2
from markupsafe import Markup

from holdfast.report.blocks import Highlight, Section
from holdfast.report.compared import Compared, SettingView
from holdfast.report.comparing.averaged import averages
from holdfast.report.comparing.by_class import by_class
from holdfast.report.comparing.choices import search, selections
from holdfast.report.comparing.closing import failures, runs
from holdfast.report.comparing.closing import repeat as go_on
from holdfast.report.comparing.costs import costs
from holdfast.report.comparing.curves import curves
from holdfast.report.comparing.together import together
from holdfast.report.comparing.verdicts import highlights as claims
from holdfast.report.comparing.verdicts import verdicts
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

OF_SETTINGS = (verdicts, costs, curves, by_class, averages, selections, search)
"""Sections of each setting of a comparison."""

OF_COMPARISONS = (runs, go_on)
"""Sections of a comparison as a whole, below those of a single setting."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Part:
    """What the page says of one directory, or of one setting of a comparison."""

    anchor: str
    title: str
    about: str
    highlights: Sequence[Highlight]
    sections: Sequence[Section]


def render(subjects: Sequence[Subject | Compared]) -> str:
    """The page of one or several directories."""
    titles = _titles(subjects)
    parts = [
        part
        for place, (subject, title) in enumerate(zip(subjects, titles, strict=True), start=1)
        for part in (_parts(subject, title, f"run-{place}") if isinstance(subject, Compared) else [_part(subject, title, f"run-{place}")])
    ]
    several = len(subjects) > 1
    overview = _overview(subjects, titles)
    contents = [(section.name, section.title) for section in parts[0].sections]
    if len(parts) > 1:
        contents = [*([(overview.name, overview.title)] if overview else []), *((part.anchor, part.title) for part in parts)]
    numbers = itertools.count(1)
    return _environment().get_template("page.html.jinja").render(
        title=f"{len(subjects)} {'comparisons and runs' if any(isinstance(entry, Compared) for entry in subjects) else 'runs'}"
        if several
        else titles[0],
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


def _parts(compared: Compared, title: str, anchor: str) -> Iterator[Part]:
    """A comparison: one part, or what holds for all its settings and then one part for each."""
    methods = len({row.name for row in compared.comparison.methods})
    about = f"{methods} methods · {len(compared.comparison.runs)} runs"
    whole = [section for make in OF_COMPARISONS if (section := make(compared)) is not None]
    first = [section for make in (failures, together) if (section := make(compared)) is not None]
    if len(compared.settings) == 1:
        view = compared.settings[0]
        yield Part(anchor, title, f"{view.name} · {about}", claims(view), [*first, *_of_setting(view), *whole])
        return
    yield Part(anchor, f"{title}: all settings", f"{len(compared.settings)} settings · {about}", [], [*first, *whole])
    for place, view in enumerate(compared.settings, start=1):
        yield Part(f"{anchor}-setting-{place}", view.name, f"{len(view.methods)} methods", claims(view), _of_setting(view))


def _of_setting(view: SettingView) -> list[Section]:
    return [section for make in OF_SETTINGS if (section := make(view)) is not None]


def _overview(subjects: Sequence[Subject | Compared], titles: Sequence[str]) -> Section | None:
    """The runs side by side where there are several; comparisons speak for themselves."""
    found = [(subject, title) for subject, title in zip(subjects, titles, strict=True) if isinstance(subject, Subject)]
    return comparison([subject for subject, _ in found], [title for _, title in found]) if len(found) > 1 else None


def _titles(subjects: Sequence[Subject | Compared]) -> list[str]:
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
