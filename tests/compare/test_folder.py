"""The directory of a comparison."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from tests.compare.rows import cell, write_run

from holdfast.compare.cells import Outcome
from holdfast.compare.folder import Folder
from holdfast.errors import RunError
from holdfast.run import Run

HOLD = """
import sys, time
from holdfast.compare.folder import Folder
folder = Folder(sys.argv[1])
folder.begin()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


@pytest.fixture
def opened(there):
    """Opens the directory as often as it is called; all are let go of at the end."""
    folders = []

    def make():
        folders.append(Folder(there))
        return folders[-1]

    yield make
    for folder in folders:
        folder.end()


def test_nothing_is_made_before_it_begins(there):
    Folder(there).begin_if_there()
    assert not there.exists()


def test_what_was_asked_is_read_again(there, opened):
    folder = opened()
    assert (folder.asked, folder.data) == ({}, {})
    folder.begin()
    folder.write_asked({"methods": ["plain", {"name": "x", "lr": 0.1}], "seeds": 3}, {"cars/": "abc"})
    assert dict(Folder(there).asked) == {"methods": ["plain", {"name": "x", "lr": 0.1}], "seeds": 3}
    assert Folder(there).data == {"cars/": "abc"}
    assert (there / "comparison.yaml").read_text().startswith(f"# To go on with this comparison: holdfast compare --config {there}/comp")
    assert set(yaml.safe_load((there / "comparison.yaml").read_text())["versions"]) == {"holdfast", "torch", "python", "created", "data"}


def test_two_cannot_work_in_it(there, opened):
    first = opened()
    first.begin()
    first.begin()
    with pytest.raises(RunError, match=r"there: another comparison is working in it \(process \d+ on .+\); wait for it, or stop it first$"):
        Folder(there).begin_if_there()
    first.end()
    opened().begin()


def test_a_process_that_was_killed_leaves_no_lock(there, opened):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(there)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match=f"process {process.pid} on"):
        Folder(there).begin()
    process.kill()
    process.wait()
    process.stdout.close()
    opened().begin()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("x"), "is a file; choose a directory"),
        (lambda path: Run.create(path, {}), "is a run of 'holdfast fit'; choose another directory"),
        (lambda path: (path / "photos").mkdir(parents=True), r"is not empty \(it contains 'photos'\) and is no comparison; choose another"),
    ],
)
def test_what_is_no_comparison_is_left_alone(there, make, message):
    make(there)
    before = sorted(there.rglob("*"))
    with pytest.raises(RunError, match=message):
        Folder(there)
    assert sorted(there.rglob("*")) == before


def test_a_directory_that_a_killed_start_left_is_taken_up(there, opened):
    opened().begin()
    (there / "log.txt").touch()
    Folder(there)


def test_a_finished_run_is_found_and_one_that_was_begun_is_not(there):
    folder, done, begun, none = Folder(there), cell("plain"), cell("plain", 1), cell("plain", 2)
    write_run(there, done, 30)
    Run.create(there / "runs" / begun.key, {})
    run = folder.finished(done)
    assert run is not None
    assert run.test.accuracy == 0.75
    assert folder.finished(begun) is None
    assert folder.finished(none) is None


def test_failures_are_listed_as_long_as_there_are_some(there, opened):
    folder, own = opened(), cell("plain", 3, 1, trial="lr=1", tuning=True)
    folder.begin()
    folder.write_failures([Outcome(own, "its loss became NaN", 2.5, 1), Outcome(cell("plain"), None, 1.0)])
    (entry,) = json.loads((there / "failures.json").read_text())["failures"]
    assert entry == {
        **{"method": "plain", "data": "photos", "model": "demo:glyphnet", "fraction": None, "seed": 3, "data_seed": 1, "trial": "lr=1"},
        **{"tuning": True, "run": f"runs/{own.key}", "error": "its loss became NaN", "attempts": 1, "seconds": 2.5},
    }
    folder.write_failures([Outcome(own, None, 2.5)])
    assert not (there / "failures.json").exists()
