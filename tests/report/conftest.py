"""Reports of several kinds of directories, written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.report.comparisons import RIGHT, write_comparison_of
from tests.report.examples import audit_of, names_of, write_audit, write_features, write_run
from tests.report.parsing import Node, read_page

from holdfast.compare.cells import Setting
from holdfast.report import write_report

HOSTILE = ("<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "$\\frac{1}{2}$ & {{ 7 * 7 }}\x00\x1b", "漢字" * 30)


@dataclass(frozen=True)
class Report:
    """A written report: its directory, file and page."""

    folder: Path
    file: Path
    page: Node


def _whole(folder: Path) -> None:
    write_features(write_run(folder))
    write_audit(folder, audit_of())


def _many(folder: Path) -> None:
    names = names_of(300)
    write_run(folder, classes=names, examples=600, epochs=30)
    layers = [f"stages.{number // 10}.blocks.{number}.mlp.fc1" for number in range(50)]
    write_audit(folder, audit_of(classes=names, layers=layers, points=900))


def _hostile(folder: Path) -> None:
    write_run(
        folder, classes=HOSTILE, epochs=0, config={"data": "<script>alert(2)</script>", "method": [{"name": "<b>bold</b>", "weight": 2}]}
    )
    audit = audit_of(classes=HOSTILE, layers=HOSTILE)
    audit["notes"] = list(HOSTILE)
    audit["bound"]["assumptions"] = list(HOSTILE)
    audit["settings"]["layers"] = HOSTILE[1]
    audit.update(spectrum=None, noise_stability=[])
    write_audit(folder, audit)


def _audit_only(folder: Path) -> None:
    write_audit(folder, {**audit_of(vacuous=False), "spectrum": None, "noise_stability": [], "features": None})


def _several(folder: Path) -> None:
    settings = [Setting(name, HOSTILE[0], 0.25) for name in HOSTILE[:2]]
    right = dict(zip((*HOSTILE, "plain"), ((50, 53), (56, 58), (40, 44), (50, 51), (40, 40)), strict=True))
    write_comparison_of(
        folder, right, settings=settings, data_seeds=(0, 1), classes=HOSTILE, error=HOSTILE[1], search=False, every_pair=True
    )


MAKERS: dict[str, Callable[[Path], object]] = {
    "whole": _whole,
    "many": _many,
    "<i>hostile": _hostile,
    "bare": lambda folder: write_run(folder, splits=(), epochs=0),
    "audit-only": _audit_only,
    "compared": lambda folder: write_comparison_of(folder, RIGHT),
    "<u>several": _several,
}
TOGETHER = ("<i>hostile", "bare", "audit-only")


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> dict[str, Report]:
    """By kind: a run with everything, 300 classes, hostile names, a run with its result alone, an audit alone; the last three together.

    Comparisons: of one setting with everything, of several with hostile names.
    """
    base = tmp_path_factory.mktemp("reports")
    written = {}
    for name, make in MAKERS.items():
        make(base / name)
        file = write_report([base / name])
        written[name] = Report(base / name, file, read_page(file))
    file = write_report([base / name for name in TOGETHER], base / "together.html")
    return {**written, "together": Report(base, file, read_page(file))}
