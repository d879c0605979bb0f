"""Processes of this machine: what a run becomes that was killed, and that a comparison loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.training.small_runs import assert_same_run

from holdfast.run import Run

pytestmark = pytest.mark.slow

COMPARE = ["compare", "demo:digits", "--model", "demo:glyphnet", "--methods", "plain,adarand", "--seeds", "2", "--shots", "3"]
COMPARE += ["--epochs", "2", "--no-flip", "--device", "cpu", "--threads", "1", "--checkpoint-minutes", "0", "--workers", "2"]
LONG = [*COMPARE, "--epochs", "400"]


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-m", "holdfast", *map(str, words)], env=environment, stdout=subprocess.DEVNULL)


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(process.pid).children() if "holdfast.compare.worker" in child.cmdline()]
    return []


def until_a_checkpoint(process: subprocess.Popen[bytes], folder: Path) -> list[psutil.Process]:
    """The workers, as soon as a run has a checkpoint behind its first one."""
    while process.poll() is None and not any(Run.open(file.parent.parent).history for file in folder.glob("runs/*/checkpoint/state.pt")):
        wait(process, 0.02)
    assert process.poll() is None
    return workers_of(process)


def table_of(folder: Path) -> list[object]:
    """What a comparison says of its methods but for times."""
    record = json.loads((folder / "comparison.json").read_text())
    return [[(row["name"], row["n"], row["mean"], row["ci95"]) for row in record["methods"]], record["pairs"]]


def assert_same_comparison(found: Path, expected: Path) -> None:
    """The same runs with the same weights, and the same table but for times."""
    keys = sorted(path.name for path in (expected / "runs").iterdir() if path.is_dir())
    assert sorted(path.name for path in (found / "runs").iterdir() if path.is_dir()) == keys
    for key in keys:
        assert_same_run(Run.open(found / "runs" / key), Run.open(expected / "runs" / key))
    assert table_of(found) == table_of(expected)


def test_killed_driver_and_killed_worker_change_nothing(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    long = [*COMPARE, "--epochs", "30"]
    assert start(*long, "--out", undisturbed).wait() == 0

    driver = start(*long, "--out", killed)
    orphans = until_a_checkpoint(driver, killed)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert orphans
    driver = start(*long, "--out", killed)  # while those may still be writing
    psutil.wait_procs(orphans, timeout=60)
    assert not [process for process in orphans if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    before = {file: file.stat().st_mtime_ns for file in killed.glob("runs/*/checkpoint/state.pt")}
    while driver.poll() is None and not any(file.stat().st_mtime_ns != moment for file, moment in before.items() if file.exists()):
        wait(driver, 0.02)
    busy = workers_of(driver)
    assert busy
    busy[0].kill()
    assert driver.wait() == 0
    assert_same_comparison(killed, undisturbed)


def test_a_process_that_is_killed_again_and_again_is_one_failed_run(tmp_path):
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os, signal\nfrom holdfast import Regularizer, Scope, register\n"
        "@register('deadly')\nclass Deadly(Regularizer):\n    SCOPE = Scope.EXAMPLE\n"
        "    def penalty(self, step):\n"
        "        if step.step == 1 and _worker():\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return step.logits.mean() * 0.0\n"
        "def _worker():\n    import sys\n    return 'holdfast.compare.worker' in ' '.join(sys.orig_argv)\n"
    )
    out = tmp_path / "there"
    command = [*COMPARE, "--seeds", "1", "--plugin", plugin, "--out", out]
    process = start(*[word if word != "plain,adarand" else "plain,deadly" for word in command])
    assert process.wait() == 1
    (failure,) = json.loads((out / "failures.json").read_text())["failures"]
    assert (failure["method"], failure["attempts"]) == ("deadly", 2)
    assert failure["error"] == "its process was killed by SIGKILL; the system does that where memory runs out: try fewer --workers"
    assert [row["method"] for row in json.loads((out / "comparison.json").read_text())["runs"]] == ["plain"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_checkpoints_and_says_how_to_go_on(tmp_path, number):
    out = tmp_path / "there"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "holdfast", *LONG, "--out", str(out)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    workers = until_a_checkpoint(process, out)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 1
    assert f"holdfast compare --config {out}/comparison.yaml --out {out}" in said.decode()
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert not list(out.glob("runs/*/result.json"))
    assert time.time() - max(file.stat().st_mtime for file in out.glob("runs/*/checkpoint/state.pt")) < 60
