"""What a comparison is made of: cells, each of which is one run of ``fit``. The seam between planning, execution and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Cell", "Executor", "Outcome", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What methods are compared on: within one setting everything but the method is equal.

    Attributes:
        data: ``DATA`` as given.
        model: ``--model`` as given.
        fraction: ``--train-fraction``; None for the whole training split.
    """

    data: str
    model: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a comparison.

    Attributes:
        method: Its label in tables, such as ``adarand`` or ``lp-ft``: what it is compared as.
        setting: What it is compared on.
        seed: ``--seed``.
        data_seed: ``--data-seed``.
        trial: The point of the method's search grid, such as ``weight=0.1``; "" where nothing is searched.
        tuning: Whether it only helps to choose the trial: such runs are published, and never enter a comparison.
        options: All options of ``fit`` but ``out``, as ``config_to_yaml_dict`` gives them.
        key: Hash over what decides its numbers, by which a finished run is found again; also the name of its directory in ``runs/``.
    """

    method: str
    setting: Setting
    seed: int
    data_seed: int
    trial: str
    tuning: bool
    options: Mapping[str, Any]
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run of a cell ended.

    Attributes:
        cell: Which.
        error: One sentence, or None where it is finished.
        seconds: What it took here, without what an earlier attempt had done.
        attempts: How often it was started here.
        stops: Whether the reason will stop the others too, as a full disk does.
    """

    cell: Cell
    error: str | None
    seconds: float
    attempts: int = 1
    stops: bool = False


class Executor(Protocol):
    """Whoever makes the runs: processes of this machine, or Ray."""

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Make the runs in any order, each below ``DIR/runs/KEY``, and tell of each as it ends.

        A run that is there in part goes on from its checkpoint. One that fails is told of, and the others go on.
        """

    def close(self) -> None:
        """Stop what is still running, each with a checkpoint where it can write one."""
