"""How the overhead of a comparison is measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import compare
from holdfast.compare.cells import Outcome


class Worker:
    """Makes nothing, and remembers what it was handed."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.seeds: list[int] = []
        self.closed = False

    def run(self, cells):
        for cell in cells:
            self.seeds.append(cell.seed)
            yield Outcome(cell, self.error, 0.0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch):
    """Seeds of the runs that were made in this process, none of which is trained."""
    seeds: list[int] = []
    monkeypatch.setattr("holdfast.fit", lambda *, seed, **_: seeds.append(seed))
    return seeds


def test_both_make_the_same_runs_and_the_first_of_a_worker_does_not_count(made, monkeypatch, tmp_path, capsys):
    worker = Worker()
    monkeypatch.setattr(compare, "executors", lambda *_, **__: {"worker": worker})
    compare.main(["--repeats", "2", "--epochs", "1", "--json", str(tmp_path / "rows.json")])
    assert (worker.seeds, made, worker.closed) == ([2, 0, 1], [0, 1], True)
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["min"] <= row["ratio"] <= row["max"]
    assert "worker" in capsys.readouterr().out


def test_a_run_that_fails_ends_the_measurement(made, monkeypatch):
    worker = Worker("the disk is full")
    monkeypatch.setattr(compare, "executors", lambda *_, **__: {"worker": worker})
    with pytest.raises(RuntimeError, match="the disk is full"):
        compare.main(["--epochs", "1"])
    assert worker.closed
