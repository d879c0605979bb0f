"""A comparison from beginning to end, its runs made up."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable

import pytest
from tests.compare.asking import asked
from tests.compare.rows import write_run

from holdfast import compare
from holdfast.averaging import comparison as averaging
from holdfast.compare.cells import Cell, Outcome
from holdfast.compare.events import Averaging, CellEnded, Planned, TrialChosen
from holdfast.compare.forecast import Estimate
from holdfast.errors import ConfigError, Interrupted, RunError
from holdfast.run import Run

driver = importlib.import_module("holdfast.compare.driver")
forecast = importlib.import_module("holdfast.compare.forecast")
report = importlib.import_module("holdfast.report")

Result = int | str | None


class Workers:
    """Makes runs from nothing: as many right of 40 as ``right`` says; a text is the error of one that fails, and None stops."""

    def __init__(self, right: Callable[[Cell], Result]) -> None:
        self.right = right
        self.made: list[Cell] = []
        self.closed = 0

    def __call__(self, folder, count, *, stop, devices, threads):
        self.folder, self.stop, self.threads = folder, stop, threads
        return self

    def run(self, cells):
        for cell in cells:
            right = self.right(cell)
            if right is None:
                self.stop.signal = "SIGTERM"
                return
            self.made.append(cell)
            if isinstance(right, int):
                write_run(self.folder, cell, right, classes=("a", "b"))
            error = right if isinstance(right, str) else None
            yield Outcome(cell, error, 1.0, stops=error is not None and "no space" in error)

    def close(self):
        self.closed += 1


@pytest.fixture
def comparing(tmp_path, monkeypatch):
    """Compare with made-up runs: returns what the runs show, the workers, and what was announced."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    fingerprints = {"data": "d", "source_data": None, "reference": "r"}

    class Identifier:
        data_seen = {"demo:digits": "d"}  # noqa: RUF012

        def fingerprints(self, config):
            return fingerprints

    monkeypatch.setattr(driver, "Identifier", Identifier)
    monkeypatch.setattr(forecast, "_time", lambda config, *, searched: Estimate(2.0, 1.0, 3.0, "timed"))
    monkeypatch.setattr(driver, "write_comparison", lambda folder, comparison: None)
    monkeypatch.setattr(report, "write_report", lambda folders: None)
    averaged = []
    monkeypatch.setattr(averaging, "average_comparison", lambda folder, cells, *, device: averaged.append((folder, cells, device)))

    def start(right=lambda cell: 30, **typed):
        workers, events = Workers(right), []
        monkeypatch.setattr(driver, "LocalWorkers", workers)
        start.workers, start.events = workers, events
        return driver.compare_asked(asked(**typed), listener=events.append)

    start.data_seen, start.averaged = Identifier.data_seen, averaged
    return start


def by_method(cell):
    """Accuracy by method, a little different for each seed."""
    return {"plain": 25, "adarand": 30}[cell.method] + cell.seed % 5


def test_all_runs_are_made_and_compared(comparing):
    found = comparing(by_method)
    assert [cell.method for cell in comparing.workers.made] == ["plain", "adarand", "plain", "adarand"]
    assert {(run.method, run.seed): run.accuracy for run in found.runs} == {
        **{("plain", 0): 25 / 40, ("plain", 1): 26 / 40},
        **{("adarand", 0): 30 / 40, ("adarand", 1): 31 / 40},
    }
    assert found.baseline == "plain"
    assert comparing.workers.closed
    ended = [event for event in comparing.events if isinstance(event, CellEnded)]
    assert [(event.done, event.total, event.accuracy) for event in ended] == [(1, 4, 0.625), (2, 4, 0.75), (3, 4, 0.65), (4, 4, 0.775)]
    assert ended[-1].seconds_left == 0


def test_weights_of_the_runs_are_averaged_at_the_end_unless_that_is_switched_off(comparing):
    comparing(by_method)
    ((folder, cells, device),) = comparing.averaged
    assert (folder.name, len(cells), device) == ("there", 4, "auto")
    assert isinstance(comparing.events[-1], Averaging)
    comparing(by_method, average=False)
    assert len(comparing.averaged) == 1
    assert not any(isinstance(event, Averaging) for event in comparing.events)


def test_the_same_command_again_makes_nothing_again(comparing):
    first = comparing(by_method)
    assert comparing(lambda cell: "made again") == first
    assert comparing.workers.made == []


def test_a_changed_option_makes_those_runs_again_that_it_touches(comparing):
    comparing(by_method)
    comparing(by_method, **{"method.adarand.alpha": "0.25"})
    assert [cell.method for cell in comparing.workers.made] == ["adarand", "adarand"]
    comparing(by_method, seeds="3", workers="7", device="cpu", threads="3")
    assert [cell.seed for cell in comparing.workers.made] == [2, 2]


def test_a_stopped_comparison_goes_on_where_it_was(comparing):
    with pytest.raises(Interrupted) as caught:
        comparing(lambda cell: None if cell.seed else by_method(cell))
    assert str(caught.value) == (
        "stopped by SIGTERM; 2 of 4 runs are finished, and those that were begun go on from their checkpoints: type "
        "`holdfast compare --config there/comparison.yaml --out there`"
    )
    assert comparing.workers.closed
    found = comparing(by_method)
    assert [cell.seed for cell in comparing.workers.made] == [1, 1]
    assert len(found.runs) == 4


def test_what_comparison_yaml_holds_asks_for_the_same(comparing):
    first = comparing(by_method, grid=["adarand.weight=0.1,1", "plain.lr=0.01,0.1"], epochs="3")
    again = compare(config="there/comparison.yaml", out="there")
    assert again == first


def test_a_run_that_fails_is_listed_and_the_others_are_compared(comparing, tmp_path):
    found = comparing(lambda cell: "its loss became NaN in step 3" if (cell.method, cell.seed) == ("adarand", 1) else by_method(cell))
    assert [(row.name, row.n) for row in found.methods] == [("plain", 2), ("adarand", 1)]
    assert [(failure.method, failure.seed, failure.error) for failure in found.failures] == [
        ("adarand", 1, "its loss became NaN in step 3")
    ]
    assert json.loads((tmp_path / "there/failures.json").read_text())["failures"][0]["error"] == "its loss became NaN in step 3"
    comparing(by_method)
    assert [(cell.method, cell.seed) for cell in comparing.workers.made] == [("adarand", 1)]
    assert not (tmp_path / "there/failures.json").exists()


def test_a_full_disk_stops_all_and_loses_nothing(comparing):
    def right(cell):
        return "no space left for 'runs/x/model.safetensors'" if cell.seed else by_method(cell)

    with pytest.raises(RunError) as caught:
        comparing(right)
    assert str(caught.value) == (
        "no space left for 'runs/x/model.safetensors'. The comparison has stopped; 2 of 4 runs are finished, and those that were begun "
        "go on from their checkpoints: type `holdfast compare --config there/comparison.yaml --out there`"
    )
    assert len(comparing.workers.made) == 3
    assert comparing.workers.closed
    comparing(by_method)
    assert [cell.seed for cell in comparing.workers.made] == [1, 1]


# ------------------------------------------------------------------------------------------------------------------ search

GRID = ("adarand.weight=0.1,1,10", "plain.lr=1,2,3")


def test_the_trial_is_chosen_on_validation_alone(comparing, monkeypatch):
    """The validation accuracies of tuning runs prefer one trial, their test accuracies another."""

    def validated(self):
        run = Run.open(self.path)
        method = run.config["seed"] < 1000
        return None if method else type("Metrics", (), {"accuracy": VALIDATED[self.path.name]})()

    VALIDATED: dict[str, float] = {}

    def right(cell):
        VALIDATED[cell.key] = {"weight=1": 0.9, "lr=2": 0.9}.get(cell.trial, 0.1)
        return 20 if VALIDATED[cell.key] > 0.5 else 35

    monkeypatch.setattr(Run, "val", property(validated))
    found = comparing(right, grid=list(GRID), tune_seeds="2")
    assert {run.trial for run in found.runs if not run.tuning} == {"weight=1", "lr=2"}
    chosen = {event.method: (event.trial, event.accuracy, event.trials) for event in comparing.events if isinstance(event, TrialChosen)}
    assert chosen == {"plain": ("lr=2", 0.9, 3), "adarand": ("weight=1", 0.9, 3)}
    assert sum(run.tuning for run in found.runs) == 2 * 3 * 2


def test_only_the_chosen_trial_is_made_with_the_seeds_that_are_compared(comparing):
    comparing(lambda cell: 30 if cell.trial in ("weight=10", "lr=3") else 20, grid=list(GRID))
    made = comparing.workers.made
    assert [cell.tuning for cell in made] == [True] * 6 + [False] * 4
    assert {cell.trial for cell in made if not cell.tuning} == {"weight=10", "lr=3"}
    assert {cell.seed for cell in made if cell.tuning} == {1000}


def test_a_trial_that_cannot_be_trained_is_not_chosen_and_no_reason_to_fail(comparing):
    found = comparing(lambda cell: "diverged" if cell.trial in ("weight=10", "lr=3") else 20, grid=list(GRID))
    assert {run.trial for run in found.runs if not run.tuning} == {"weight=0.1", "lr=1"}
    assert {failure.trial for failure in found.failures} == {"weight=10", "lr=3"}
    assert all(failure.tuning for failure in found.failures)


def test_a_method_none_of_whose_trials_can_be_trained_has_failed(comparing):
    found = comparing(lambda cell: "diverged" if cell.method == "adarand" else 20, grid=list(GRID))
    errors = {failure.error for failure in found.failures if not failure.tuning}
    assert errors == {"no trial of its search could be trained"}
    assert {row.name for row in found.methods} == {"plain"}


# ------------------------------------------------------------------------------------------------------------------ refused


def test_the_plan_is_told_before_anything_is_made(comparing, tmp_path):
    def refuse(event):
        if isinstance(event, Planned):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.compare_asked(asked(), listener=refuse)
    assert not (tmp_path / "there").exists()


def test_a_directory_of_other_data_is_refused(comparing, tmp_path):
    comparing(by_method)
    text = (tmp_path / "there/comparison.yaml").read_text()
    (tmp_path / "there/comparison.yaml").write_text(text.replace("demo:digits: d", "cars/: e"))
    with pytest.raises(RunError, match=r"^--out there: holds a comparison on other data \(cars/\); choose another --out$"):
        comparing(by_method)


def test_a_missing_out_is_said(comparing):
    with pytest.raises(ConfigError, match=r"^--out is missing; for example: holdfast compare cars/"):
        comparing(by_method, out=None)


def test_threads_stay_what_they_were_when_the_comparison_began(comparing):
    comparing(by_method, threads="3")
    comparing(by_method, seeds="3")
    assert comparing.workers.threads == 3
    assert {cell.options["threads"] for cell in comparing.workers.made} == {3}


def test_python_takes_the_keywords_of_the_command(comparing, tmp_path, monkeypatch):
    workers = Workers(by_method)
    monkeypatch.setattr(driver, "LocalWorkers", workers)
    found = compare("demo:digits", models="demo:glyphnet", methods=["plain", "adarand"], seeds=[3], out=tmp_path / "other", lr=0.2)
    assert [(run.method, run.seed) for run in found.runs] == [("plain", 3), ("adarand", 3)]
    assert {cell.options["lr"] for cell in workers.made} == {0.2}
