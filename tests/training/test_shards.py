"""Training from tar shards, read shard after shard: stopped anywhere and resumed, and on two ranks, it ends as if nothing were special."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.small_shards import write_tar
from tests.processes import ROOT, torchrun
from tests.training.small_runs import OPTIONS, assert_same_run, assert_same_tensors

import holdfast
from holdfast.data import order, scan
from holdfast.run import Run
from holdfast.training.events import StepDone

SAME: dict[str, Any] = {**OPTIONS, "method": "adarand", "cache": "off", "workers": 0}

DRIVER = """
import sys

from holdfast.data import order, scan

scan.HASH_LIMIT, order.WINDOW, order._SHARDS_AT_ONCE = 0, 4, 0
if sys.argv[1] == "fit":
    from holdfast.cli.main import main

    sys.exit(main(sys.argv[1:]))

import holdfast
from tests.training.rank_runs import SAME

holdfast.fit(sys.argv[1], **SAME, method="adarand", cache="off", workers=0, out=sys.argv[2])
"""


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as more than 10 GB, and windows are small."""
    monkeypatch.setattr(scan, "HASH_LIMIT", 0)
    monkeypatch.setattr(order, "WINDOW", 4)
    monkeypatch.setattr(order, "_SHARDS_AT_ONCE", 0)


@pytest.fixture(scope="module")
def shards(images: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The images of the small runs in shards of six."""
    root = tmp_path_factory.mktemp("shards")
    for split in ("train", "val", "test"):
        files = sorted((images / split).rglob("*.png"), key=lambda path: (path.stem, path.parent.name))  # classes mixed
        for start in range(0, len(files), 6):
            members: dict[str, bytes | str] = {}
            for path in files[start : start + 6]:
                key = f"{path.parent.name}{path.stem}"
                members |= {f"{key}.png": path.read_bytes(), f"{key}.cls": path.parent.name}
            write_tar(root / f"{split}-{start:02d}.tar", members)
    return f"wds:{root}"


class Crash(Exception):
    """Stands for the end of the process."""


def crash_after(steps: int) -> Any:
    seen: list[Any] = []

    def listen(event: Any) -> None:
        if isinstance(event, StepDone):
            seen.append(event)
            if len(seen) == steps:
                raise Crash

    return listen


def test_crashes_inside_epochs_change_nothing(shards: str, tmp_path: Path) -> None:
    undisturbed = holdfast.fit(shards, **SAME, out=tmp_path / "undisturbed")
    with pytest.raises(Crash):
        holdfast.fit(shards, **{**SAME, "checkpoint_minutes": 0.0}, out=tmp_path / "run", listener=crash_after(2))
    with pytest.raises(Crash):
        holdfast.fit(resume=tmp_path / "run", listener=crash_after(3))
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), undisturbed)


@pytest.mark.slow
def test_a_kill_inside_an_epoch_changes_nothing(shards: str, tmp_path: Path) -> None:
    def start(*words: str | Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        return subprocess.Popen([sys.executable, "-c", DRIVER, "fit", *map(str, words)], env=environment, stdout=subprocess.DEVNULL)

    words = [shards, "--model", OPTIONS["model"], "--image-size", 16, "--method", "adarand", "--epochs", 20, "--batch-size", 6]
    words += ["--device", "cpu", "--threads", 1, "--checkpoint-minutes", 0, "--cache", "off", "--workers", 2, "--quiet"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(*words, "--out", undisturbed).wait() == 0
    process = start(*words, "--out", killed)
    state = killed / "checkpoint/state.pt"
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert start("--resume", killed, "--quiet").wait() == 0
    assert_same_run(Run.open(killed), Run.open(undisturbed))


@pytest.mark.ranks
def test_two_ranks_are_one(shards: str, tmp_path: Path) -> None:
    from tests.training.rank_runs import SAME as ON_RANKS

    (tmp_path / "driver.py").write_text(DRIVER)
    done = torchrun(tmp_path / "driver.py", shards, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one = holdfast.fit(shards, **ON_RANKS, method="adarand", cache="off", workers=0, out=tmp_path / "one")
    two = Run.open(tmp_path / "two")
    torch.testing.assert_close(two.load_weights(), one.load_weights(), rtol=1e-4, atol=1e-5)
    small = holdfast.fit(shards, **ON_RANKS, method="plain", cache="off", workers=0, out=tmp_path / "plain")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(small.load_weights(), one.load_weights(), rtol=1e-4, atol=1e-5)


def test_the_order_by_shards_is_another_than_that_of_small_data(shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_shards = holdfast.fit(shards, **SAME, out=tmp_path / "large")
    monkeypatch.setattr(scan, "HASH_LIMIT", 10**10)
    small = holdfast.fit(shards, **SAME, out=tmp_path / "small")
    with pytest.raises(AssertionError):
        assert_same_tensors(by_shards.load_weights(), small.load_weights())
