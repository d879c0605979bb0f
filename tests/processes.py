"""Starting two ranks on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script or a module in two processes that find each other, on one thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, words)]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=550)


def like_srun(words: Sequence[str | Path], count: int) -> list[subprocess.CompletedProcess[str]]:
    """Run ``python -m holdfast`` several times, as the tasks of one SLURM step on this machine."""
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": str(count)}
    step |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": str(count)}
    command, started = [sys.executable, "-m", "holdfast", *map(str, words)], []
    for task in range(count):
        environment = {**_environment(), **step, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        said = [task.communicate(timeout=300) for task in started]
        return [subprocess.CompletedProcess(command, task.returncode, *out) for task, out in zip(started, said, strict=True)]
    finally:
        for task in started:
            task.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
