"""Runs on real Ray clusters of this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading

import psutil
import pytest
from tests.compare.ray_nodes import cluster, ray_environment
from tests.training.small_runs import assert_same_run

from holdfast.compare.cells import Cell, Setting
from holdfast.compare.ray_workers import RayWorkers
from holdfast.compare.work import make_run
from holdfast.config.layers import keywords
from holdfast.config.load import config_to_yaml_dict, resolve
from holdfast.errors import RunError
from holdfast.run import Run
from holdfast.training.interrupt import StopRequest

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'holdfast[ray]'"),
]

EPOCHS = 8


@pytest.fixture(scope="module", autouse=True)
def _environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_environment().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same run, made here and without interruption."""
    made = {}

    def run(method, epochs=EPOCHS):
        if (method, epochs) not in made:
            made[method, epochs] = tmp_path_factory.mktemp("undisturbed") / method
            make_run(cell(method, epochs=epochs), made[method, epochs])
        return Run.open(made[method, epochs])

    return run


def cell(method, *, key=None, **options):
    asked = {"data": "demo:digits", "model": "demo:glyphnet", "method": method, "out": "anywhere", "epochs": EPOCHS, "batch_size": 64}
    config = resolve([keywords({**asked, "train_fraction": 0.2, "device": "cpu", "threads": 1, **options})])
    values = {name: value for name, value in config_to_yaml_dict(config).items() if name != "out"}
    return Cell(method, Setting("demo:digits", "demo:glyphnet"), 0, 0, "", False, values, key or f"key-{method}")


class Watcher(threading.Thread):
    """Does something to a cluster as soon as a condition holds."""

    def __init__(self, condition, action):
        super().__init__(daemon=True)
        self.condition, self.action = condition, action
        self.acted = False
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            if self.condition():
                self.action()
                self.acted = True
                return

    def end(self):
        self.over.set()
        self.join()


def epochs_of(folder, *methods):
    """Epochs of the least advanced of these runs that are not finished."""
    runs = [folder / "runs" / f"key-{method}" for method in methods]
    return min((history.read_text().count("\n") - 1 if (history := run / "history.csv").exists() else 0) for run in runs)


def outcomes_of(workers, cells):
    return {outcome.cell.method: outcome for outcome in workers.run(cells)}


def process_of(workers, method):
    """The process that makes a run."""
    crew = workers._crew
    return next(crew._cards[worker].process for worker, made in list(crew._cells.items()) if made.method == method)


def made_on(node, workers):
    """The methods whose runs are being made by processes of a node."""
    crew = workers._crew
    return [made.method for worker, made in list(crew._cells.items()) if worker in crew._cards and node.has(crew._cards[worker].process)]


def test_a_grid_finishes_with_the_same_numbers_though_a_node_is_killed(tmp_path, undisturbed):
    methods, epochs = ("plain", "l2-sp", "fnp", "bss"), 20  # so long that the second node comes in time

    def is_at_work(node):
        return any(epochs_of(tmp_path, method) >= 2 for method in made_on(node, workers))

    with cluster() as nodes:
        workers = RayWorkers(tmp_path, address=nodes.address, stop=StopRequest())
        second = nodes.add_second()  # joins while others work
        ready = Watcher(lambda: is_at_work(second), lambda: (second.remember(), second.kill()))
        try:
            outcomes = outcomes_of(workers, [cell(method, epochs=epochs) for method in methods])
        finally:
            ready.end()
            workers.close()
    assert ready.acted
    assert {method: outcome.error for method, outcome in outcomes.items()} == dict.fromkeys(methods)
    assert sorted(outcome.attempts for outcome in outcomes.values()) == [1, 1, 1, 2]
    for method in outcomes:
        assert_same_run(Run.open(tmp_path / "runs" / f"key-{method}"), undisturbed(method, epochs))


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory):
    """A cluster of this machine's own, which lasts as long as the module."""
    keeper = RayWorkers(tmp_path_factory.mktemp("keeper"), address="local", stop=StopRequest(), count=2)
    yield
    keeper.close()


@pytest.fixture
def local(own_cluster):
    """Executors on it. They end with the test, since the processes of one would keep the next from having any."""
    made = []

    def open_(folder, **options):
        made.append(RayWorkers(folder, address="local", **{"stop": StopRequest(), "count": 1, **options}))
        return made[-1]

    yield open_
    for workers in made:
        workers.close()


def test_a_worker_that_gets_sigterm_writes_a_checkpoint_and_its_run_goes_on_elsewhere(local, tmp_path, undisturbed):
    workers = local(tmp_path)
    log = tmp_path / "runs/key-plain/history.csv"
    state = {}

    def tell():
        state["process"] = process_of(workers, "plain")
        os.kill(state["process"], signal.SIGTERM)

    told = Watcher(lambda: log.exists() and epochs_of(tmp_path, "plain") >= 3, tell)
    outcome = outcomes_of(workers, [cell("plain")])["plain"]
    told.end()
    assert told.acted
    assert (outcome.error, outcome.attempts) == (None, 2)
    assert_same_run(Run.open(tmp_path / "runs/key-plain"), undisturbed("plain"))
    assert not psutil.pid_exists(state["process"])


def test_a_killed_process_is_replaced(local, tmp_path, undisturbed):
    workers = local(tmp_path)
    killed = Watcher(lambda: epochs_of(tmp_path, "plain") >= 3, lambda: os.kill(process_of(workers, "plain"), signal.SIGKILL))
    outcome = outcomes_of(workers, [cell("plain")])["plain"]
    killed.end()
    assert killed.acted
    assert (outcome.error, outcome.attempts) == (None, 2)
    assert_same_run(Run.open(tmp_path / "runs/key-plain"), undisturbed("plain"))


def test_a_run_that_cannot_be_made_is_told_of_and_the_others_go_on_in_the_same_process(local, tmp_path):
    workers = local(tmp_path)
    bad = cell("fnp", epochs=1)
    bad.options["data"] = str(tmp_path / "nowhere")
    outcomes = outcomes_of(workers, [bad, cell("plain", epochs=1), cell("l2-sp", epochs=1)])
    assert "nowhere" in outcomes["fnp"].error
    assert (outcomes["fnp"].attempts, outcomes["plain"].error, outcomes["l2-sp"].error) == (1, None, None)
    assert len(workers._crew._cards) == 1


def test_stopping_leaves_a_checkpoint_that_another_executor_goes_on_from(local, tmp_path, undisturbed):
    stop, epochs = StopRequest(), 25  # so many that the wish to stop, which goes through Ray, comes before the last
    first = local(tmp_path, stop=stop)
    asked = Watcher(lambda: epochs_of(tmp_path, "plain") >= 2, lambda: setattr(stop, "signal", "SIGINT"))
    assert outcomes_of(first, [cell("plain", epochs=epochs)]) == {}
    asked.end()
    before = epochs_of(tmp_path, "plain")
    assert 2 <= before < epochs
    assert not list(tmp_path.glob(".here*"))
    outcome = outcomes_of(local(tmp_path), [cell("plain", epochs=epochs)])["plain"]
    assert (outcome.error, outcome.attempts) == (None, 1)
    assert_same_run(Run.open(tmp_path / "runs/key-plain"), undisturbed("plain", epochs))


def test_runs_are_kept_in_storage_and_come_home_without_their_checkpoints(local, tmp_path, undisturbed):
    url = f"file://{tmp_path}/store"
    store = tmp_path / "store"
    workers = local(tmp_path / "first", storage=url)
    history = store / "key-plain/history.csv"
    killed = Watcher(
        lambda: history.exists() and history.read_text().count("\n") > 3, lambda: os.kill(process_of(workers, "plain"), signal.SIGKILL)
    )
    outcome = outcomes_of(workers, [cell("plain")])["plain"]
    killed.end()
    assert killed.acted
    assert (outcome.error, outcome.attempts) == (None, 2)
    home = tmp_path / "first/runs/key-plain"
    assert_same_run(Run.open(home), undisturbed("plain"))
    assert not (home / "checkpoint").exists()

    again = local(tmp_path / "second", storage=url)
    assert outcomes_of(again, [cell("plain")])["plain"].attempts == 0
    assert Run.open(tmp_path / "second/runs/key-plain").finished


def test_a_node_that_does_not_see_the_directory_is_told_of(local, tmp_path):
    workers = local(tmp_path)
    (tmp_path / workers._mark).unlink()
    with pytest.raises(RunError, match=r"--out .*: the node .* does not see this directory; .*--storage URL"):
        outcomes_of(workers, [cell("plain")])


def test_workers_of_another_version_are_told_of(local, tmp_path, monkeypatch):
    workers = local(tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.7")
    with pytest.raises(RunError, match=r"--ray: .* has holdfast .*, and this machine 0\.0\.7; install the same on both"):
        outcomes_of(workers, [cell("plain")])
