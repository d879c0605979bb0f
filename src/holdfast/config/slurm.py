"""The ranks of a SLURM step, in the words of torchrun: what ``srun holdfast fit ...`` starts finds itself."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from holdfast.errors import ConfigError

__all__ = ["adopt_slurm_ranks", "first_host"]

PORTS = range(20_000, 40_000)

NEEDED = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST")


def adopt_slurm_ranks(environment: MutableMapping[str, str]) -> None:
    """Set ``RANK``, ``WORLD_SIZE`` and the like from what ``srun`` says of a step of several tasks.

    What torchrun has set stays as it is, and so does a ``MASTER_ADDR`` or ``MASTER_PORT`` of the user's. A batch script that starts
    Python without ``srun`` is one process, however many tasks its job has.

    Raises:
        ConfigError: SLURM tells of several tasks, but not which of them this is.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1" or "WORLD_SIZE" in environment or "RANK" in environment:
        return
    missing = [name for name in NEEDED if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"the environment variable SLURM_STEP_NUM_TASKS is {tasks}, but {missing[0]} is not set, so this rank does not know which it "
            "is; start with srun, or unset SLURM_STEP_NUM_TASKS for a run of its own."
        )
    environment["RANK"], environment["WORLD_SIZE"] = environment["SLURM_PROCID"], tasks
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["LOCAL_WORLD_SIZE"] = str(_tasks_here(environment, int(tasks)))
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(_port(environment)))


def first_host(nodes: str) -> str:
    """The first host of a list as SLURM writes it.

    Example:
        >>> first_host("gpu[003-006,010],login1")
        'gpu003'
    """
    match = re.match(r"([^,\[]*)(?:\[([^\]\-,]+)[^\]]*\]([^,\[]*))?", nodes)
    assert match is not None
    return "".join(part or "" for part in match.groups())


def _tasks_here(environment: MutableMapping[str, str], tasks: int) -> int:
    """Tasks on this machine, from a text such as ``4(x2),3``."""
    counts: list[int] = []
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", str(tasks)).split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        counts += [int(match[1])] * int(match[2] or 1) if match else []
    node = environment.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else tasks


def _port(environment: MutableMapping[str, str]) -> int:
    """The same on all ranks of a step, and another for each step that runs at the same time, as far as that can be had."""
    numbers = [int(text) if (text := environment.get(name, "0")).isdigit() else 0 for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return PORTS[(7919 * numbers[0] + numbers[1]) % len(PORTS)]
