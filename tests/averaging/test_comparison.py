"""Averages after a comparison."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.averaging.conftest import Make

from holdfast.averaging import comparison
from holdfast.averaging.comparison import average_comparison
from holdfast.cli.averages import print_averages
from holdfast.compare.cells import Cell, Setting
from holdfast.run import Run

SETTING = Setting("images", "tiny")


def cell(method: str, seed: int, data_seed: int = 0, *, tuning: bool = False, setting: Setting = SETTING) -> Cell:
    return Cell(method, setting, seed, data_seed, "", tuning, {}, f"{method}-{seed}-{data_seed}{'-tuning' if tuning else ''}")


@pytest.fixture
def directory(plain: list[Run], tmp_path: Path) -> Path:
    """A comparison of two seeds, with one more that only tuned, and one that is not finished."""
    for key, run in (("plain-0-0", plain[0]), ("plain-1-0", plain[1]), ("plain-2-0-tuning", plain[2])):
        shutil.copytree(run.path, tmp_path / "runs" / key)
    (tmp_path / "runs" / "plain-3-0").mkdir()
    return tmp_path


CELLS = [cell("plain", 0), cell("plain", 1), cell("plain", 2, tuning=True), cell("plain", 3)]


def test_finished_cells_that_are_compared_are_averaged_and_named_from_the_directory_on(directory: Path):
    found = average_comparison(directory, CELLS, device="cpu")
    (group,) = found.groups
    assert [run.run for run in group.runs] == ["runs/plain-0-0", "runs/plain-1-0"]
    assert {member for row in group.averages for member in row.members} <= {"runs/plain-0-0", "runs/plain-1-0"}
    assert (directory / "averages.json").is_file()


def test_what_is_there_already_is_not_made_again_unless_runs_have_joined(
    directory: Path, plain: list[Run], monkeypatch: pytest.MonkeyPatch
):
    first = average_comparison(directory, CELLS, device="cpu")
    made: list[Any] = []
    averaged = comparison.average_group

    def noting(runs: Any, *args: Any, **options: Any) -> Any:
        made.append(len(runs))
        return averaged(runs, *args, **options)

    monkeypatch.setattr(comparison, "average_group", noting)
    assert average_comparison(directory, CELLS, device="cpu") == first
    assert made == []
    shutil.rmtree(directory / "runs" / "plain-3-0")
    shutil.copytree(plain[2].path, directory / "runs" / "plain-3-0")
    average_comparison(directory, CELLS, device="cpu")
    assert made == [3]


def test_other_data_seeds_and_settings_are_groups_of_their_own(directory: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch):
    grouped: list[list[str]] = []

    def noting(runs: Any, *_: Any, **__: Any) -> Any:
        grouped.append([run.path.name for _, run in runs])
        return comparison.Group("d", "m", None, 0, (), (), None, None), 0

    monkeypatch.setattr(comparison, "average_group", noting)
    other = cell("plain", 1, setting=dataclasses.replace(SETTING, fraction=0.5))
    other = dataclasses.replace(other, key="other")
    for key in ("plain-0-1", "other"):
        shutil.copytree(directory / "runs" / "plain-0-0", directory / "runs" / key)
    average_comparison(directory, [*CELLS, cell("plain", 0, 1), other], device="cpu")
    assert grouped == [["plain-0-0", "plain-1-0"], ["plain-0-1"], ["other"]]


def test_what_cannot_be_averaged_is_noted_and_stops_nothing(
    directory: Path, make_run: Make, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    odd = make_run("odd", epochs=1, image_size=24)
    shutil.copytree(odd.path, directory / "runs" / "odd-0-1")
    shutil.copytree(directory / "runs" / "plain-0-0", directory / "runs" / "plain-0-1")
    found = average_comparison(directory, [*CELLS, cell("odd", 0, 1), cell("plain", 0, 1)], device="cpu")
    assert [bool(group.note) for group in found.groups] == [False, True]
    assert "do not share the size of the images" in found.groups[1].note
    assert "data seed 1: no averages: " in caplog.text
    print_averages(found)
    printed = capsys.readouterr().out
    assert "did not help" in printed
    assert "none: " in printed


def test_a_half_made_average_makes_room_and_a_finished_one_stays(directory: Path):
    half = directory / "averages" / "01"
    half.mkdir(parents=True)
    (half / "config.yaml").write_text("seed: 0\n")
    assert comparison._vacant(directory / "averages", 1) == half
    assert not half.exists()
    shutil.copytree(directory / "runs" / "plain-0-0", half)
    assert comparison._vacant(directory / "averages", 1).name == "01-2"
    assert half.exists()
