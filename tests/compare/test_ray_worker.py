"""What runs on a node of a cluster, without the cluster."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from holdfast.compare import ray_workers
from holdfast.compare.cells import Cell, Setting
from holdfast.compare.ray_workers import Place, Worker
from holdfast.compare.storage import Storage
from holdfast.compare.work import Attempt
from holdfast.errors import Interrupted
from holdfast.training.events import CheckpointSaved

URL = "memory://runs"
CELL = Cell("plain", Setting("demo:digits", "demo:glyphnet"), 0, 0, "", False, {}, "0123456789abcdef")


@pytest.fixture(autouse=True)
def _store(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_EXAMPLE", "before")
    fsspec.filesystem("memory").store.clear()
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def worker(tmp_path):
    def make(storage=None):
        return Worker(Place(str(tmp_path), storage, ".here", str(tmp_path), {"HOLDFAST_EXAMPLE": "after"}))

    return make


@pytest.fixture
def attempted(monkeypatch):
    """A function that sets what takes the place of a training, given the run's folder and its listener; and the folders it got."""
    folders = []

    def set_(training):
        def attempt(cell, folder, *, listener=None, failed):
            folders.append(folder)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                training(folder, listener)
            except ZeroDivisionError as error:
                failed(error)
                return Attempt("ZeroDivisionError", 1.0, may_pass=True)
            return Attempt(None, 1.0)

        monkeypatch.setattr(ray_workers, "attempt", attempt)
        return folders

    return set_


def test_a_worker_is_no_rank_of_a_run_though_its_node_was_started_as_one(worker, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    worker()
    assert not {"WORLD_SIZE", "RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}.intersection(os.environ)
    assert os.environ["HOLDFAST_EXAMPLE"] == "after"


def test_without_storage_runs_are_made_in_the_directory_of_the_comparison(worker, attempted, tmp_path):
    folders = attempted(lambda folder, listener: None)
    assert worker().make(CELL) == (Attempt(None, 1.0), "")
    assert folders == [tmp_path / "runs" / CELL.key]


def test_with_storage_a_run_begins_with_what_is_there_and_ends_there(worker, attempted):
    attempted(lambda folder, listener: (folder / "config.yaml").write_text("seed: 0"))
    made = worker(URL)
    assert made.make(CELL) == (Attempt(None, 1.0), "")
    seen = []

    def go_on(folder, listener):
        seen.append((folder / "config.yaml").read_text())
        (folder / "result.json").write_text("{}")

    folders = attempted(go_on)
    assert made.make(CELL)[0].error is None
    assert seen == ["seed: 0"]
    assert Storage(URL).has_finished(CELL.key)
    assert not folders[0].exists()


def test_checkpoints_are_copied_while_training_goes_on(worker, attempted, tmp_path):
    there = []

    def train(folder, listener):
        (folder / "history.csv").write_text("epoch")
        listener(CheckpointSaved(str(folder), 1))
        there.extend(Storage(URL).fetch(CELL.key, tmp_path / "look"))

    attempted(train)
    worker(URL).make(CELL)
    assert there == ["history.csv"]


def test_a_run_that_is_told_to_stop_leaves_its_checkpoint_in_the_storage(worker, attempted, tmp_path):
    def stop(folder, listener):
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint/state.pt").write_text("state")
        raise Interrupted("stopped by SIGTERM")

    attempted(stop)
    assert worker(URL).make(CELL) == (None, "")
    assert Storage(URL).fetch(CELL.key, tmp_path / "look") == {"checkpoint/state.pt"}


def test_a_storage_that_fails_may_do_better_next_time(worker, attempted, monkeypatch):
    def refuse(self, key, name, file):
        raise OSError("no route to host")

    attempted(lambda folder, listener: (folder / "config.yaml").touch())
    monkeypatch.setattr(Storage, "put", refuse)
    ended, _ = worker(URL).make(CELL)
    assert ended.error == "--storage memory://runs: it cannot be written to (OSError: no route to host)"
    assert ended.may_pass
    assert not ended.stops


def test_an_unexpected_error_comes_with_its_traceback(worker, attempted):
    ended, text = (attempted(lambda folder, listener: 1 / 0), worker().make(CELL))[1]
    assert ended == Attempt("ZeroDivisionError", 1.0, may_pass=True)
    assert "1 / 0" in text


def test_a_worker_says_why_it_cannot_work_where_it_is(worker, tmp_path):
    version = ray_workers._version()
    alone = worker()
    assert "does not see this directory" in alone._complaint(version)
    Path(tmp_path, ".here").touch()
    assert alone._complaint(version) is None
    assert "has holdfast" in alone._complaint("0.0.7")
    stored = worker(URL)
    assert "finds something else there" in stored._complaint(version)
    Storage(URL).place_mark(".here")
    assert stored._complaint(version) is None
