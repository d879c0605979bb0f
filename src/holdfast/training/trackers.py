"""Numbers written while a run goes, for ``--tracker``: listeners of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from holdfast.run import Run
from holdfast.training.events import CheckpointSaved, EpochDone, Event, Listener, Measured, Resumed, StepDone, ignore, together
from holdfast.training.watch import FiniteWatch

__all__ = ["CsvTracker", "Numbers", "TensorBoardTracker", "numbers_of", "tracking"]


class Numbers(NamedTuple):
    """Values by name after so many optimizer steps, in or after the 1-based ``epoch``."""

    step: int
    epoch: int
    values: dict[str, float]


def numbers_of(event: Event) -> Numbers | None:
    """What an event has to say in numbers, if anything.

    Every 50 steps ``step/lr`` and the means since the epoch began, ``step/loss`` and more; after an epoch its row of ``history.csv``,
    ``epoch/val_accuracy`` and more; what ``--track`` measures under its own name, ``features/entropy`` and more. Which steps are named
    depends on the step alone, not on when a checkpoint was due, so a resumed run writes what an undisturbed one would.

    Example:
        >>> numbers_of(EpochDone(2, 3, {"epoch": 2, "step": 10, "val_accuracy": 0.5, "val_loss": None}))
        Numbers(step=10, epoch=2, values={'epoch/val_accuracy': 0.5})
    """
    match event:
        case StepDone(means=means) if means and event.step % FiniteWatch.EVERY == 0:
            return Numbers(event.step, event.epoch, _named("step", {"lr": event.lr, **means}))
        case EpochDone(row=row):
            others = {name: value for name, value in row.items() if name not in ("epoch", "step")}
            return Numbers(int(row.get("step") or 0), event.epoch, _named("epoch", others))
        case Measured():
            return Numbers(event.step, event.epoch, _named(event.what, event.values))
    return None


def _named(group: str, values: Mapping[str, float | int | None]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items() if value is not None}


class CsvTracker:
    """Writes ``metrics.csv``: step, epoch, name, value, one row a number.

    What it wrote is in the file when the event is over, so of a killed process no more than the last event is missing.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event; where a run is resumed, drop those that will come again."""
        if isinstance(event, Resumed):
            self._run.truncate_metrics(event.step)
        numbers = numbers_of(event)
        if numbers is not None:
            self._run.append_metrics(numbers.step, numbers.epoch, numbers.values)

    def close(self) -> None:
        """Nothing is open."""


class TensorBoardTracker:
    """Writes event files into ``tensorboard/`` of a run, for ``tensorboard --logdir``.

    A resumed run begins a new file that tells TensorBoard to ignore the steps that come again.
    """

    def __init__(self, run: Run) -> None:
        self._folder = run.tensorboard_dir
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write the numbers of an event; all of them are on disk when a checkpoint is."""
        if isinstance(event, Resumed):
            self._open(purge_step=event.step + 1)
        if isinstance(event, CheckpointSaved) and self._writer is not None:
            self._writer.flush()
        numbers = numbers_of(event)
        if numbers is not None:
            writer = self._writer or self._open()
            for name, value in numbers.values.items():
                writer.add_scalar(name, value, numbers.step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, purge_step: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        return self._writer


_TRACKERS: dict[str, Callable[[Run], CsvTracker | TensorBoardTracker]] = {"csv": CsvTracker, "tensorboard": TensorBoardTracker}


@contextmanager
def tracking(names: Sequence[str], run: Run) -> Iterator[Listener]:
    """A listener that feeds the trackers of these names until the block ends, however it ends."""
    trackers = [_TRACKERS[name](run) for name in dict.fromkeys(names)]
    try:
        yield together(*trackers) if trackers else ignore
    finally:
        for tracker in trackers:
            tracker.close()
