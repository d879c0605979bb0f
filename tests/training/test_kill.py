"""A process killed at any moment leaves a run that ends, once resumed, as if nothing had happened."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.training.small_runs import assert_same_run

from holdfast.run import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3

OPTIONS = ["--model", "python:tests.training.small_runs:tiny_network", "--image-size", "16", "--method", "adarand+l2-sp"]
OPTIONS += ["--epochs", "60", "--batch-size", "6", "--device", "cpu", "--threads", "1", "--checkpoint-minutes", "0", "--quiet"]


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen([sys.executable, "-m", "holdfast", "fit", *map(str, words)], env=environment, stdout=subprocess.DEVNULL)


def written(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def kill_after(process: subprocess.Popen[bytes], file: Path, seconds: float) -> bool:
    """SIGKILL so long after the process has replaced a file of the run; whether it was still running."""
    before = written(file)
    while process.poll() is None and written(file) == before:
        wait(process, 0.01)
    wait(process, seconds)
    process.kill()
    return process.wait() == -9


def test_three_kills_change_nothing(images: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(images, *OPTIONS, "--out", undisturbed).wait() == 0

    seed = time.time_ns()
    print(f"seed of the moments: {seed}")
    moments = random.Random(seed)
    kills = 0
    process = start(images, *OPTIONS, "--out", killed)
    for _ in range(KILLS):
        kills += kill_after(process, killed / "checkpoint/state.pt", moments.uniform(0, 0.3))
        process = start("--resume", killed, "--quiet")
    assert process.wait() == 0
    assert kills == KILLS
    assert_same_run(Run.open(killed), Run.open(undisturbed))
    assert not [path for path in killed.rglob("*") if "tmp~" in path.name]
