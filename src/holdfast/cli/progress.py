"""What is shown while a run trains: a bar on a terminal, a line for each epoch elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from holdfast.cli.terminal import err
from holdfast.run import Run
from holdfast.training.events import (
    EpochDone,
    Evaluating,
    Event,
    Listener,
    Measured,
    Resumed,
    RunFinished,
    RunStarted,
    SetupStarted,
    StepDone,
    StoppedEarly,
    ignore,
)
from holdfast.wording import count, decimal, duration, percent

__all__ = ["progress"]

REFRESH_SECONDS = 0.25
"""Shortest time between two drawings of the bar: drawing costs about a millisecond, and a step can cost five."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Listener]:
    """A listener that shows a run's events until the block ends.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield ignore
    elif err.is_terminal:
        with _Bar() as bar:
            yield bar
    else:
        yield _Lines()


class _Best:
    """The best validation accuracy so far, of the trained weights or of their average; ties go to the earlier epoch, as in selection."""

    def __init__(self, column: str = "val_accuracy") -> None:
        self.column = column
        self.accuracy: float | None = None
        self.epoch = 0

    def offer(self, accuracy: float | None, epoch: int) -> None:
        if accuracy is not None and (self.accuracy is None or accuracy > self.accuracy):
            self.accuracy, self.epoch = accuracy, epoch

    def restore(self, run: str) -> None:
        """Take over the epochs that a resumed run has behind it."""
        for row in Run.open(run).history:
            accuracy, epoch = row.get(self.column), row.get("epoch")
            if isinstance(accuracy, int | float) and isinstance(epoch, int):
                self.offer(accuracy, epoch)


class _Lines:
    """Plain lines, for logs."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """A run has nothing to do with one before it, of which it may be the second phase."""
        self._best = {"val": _Best(), "averaged": _Best("ema_val_accuracy")}
        self._seconds: list[float] = []

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin()
                _print_start(event)
            case Resumed():
                for best in self._best.values():
                    best.restore(event.run)
                _print(f"resumed in epoch {event.epoch + 1}, after {event.step} steps")
            case SetupStarted():
                _print(f"{event.name}: looking at the pretrained features")
            case EpochDone():
                _print(self._epoch_line(event))
            case Measured():
                _print(_measured_line(event))
            case StoppedEarly():
                _print(_why_stopped(event))

    def _epoch_line(self, event: EpochDone) -> str:
        row = event.row
        self._seconds.append(row.get("seconds") or 0.0)
        left = (event.total_epochs - event.epoch) * sum(self._seconds) / len(self._seconds)
        width = len(str(event.total_epochs))
        parts = [
            f"epoch {event.epoch:{width}d}/{event.total_epochs}",
            f"loss {decimal(row.get('loss'), 4)}",
            f"train {percent(row.get('train_accuracy'))}",
        ]
        for name, best in self._best.items():
            best.offer(row.get(best.column), event.epoch)
            if best.accuracy is not None:
                parts.append(f"{name} {percent(row.get(best.column))} (best {percent(best.accuracy)} in epoch {best.epoch})")
        if row.get("lr") is not None:
            parts.append(f"lr {row['lr']:.2g}")
        parts.append(duration(self._seconds[-1]))
        return "  ".join([*parts, f"{duration(left)} left"] if left else parts)


class _Bar:
    """One bar over all steps of the run.

    It draws itself when an event arrives and enough time has passed; no thread competes with training.
    """

    def __init__(self) -> None:
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=20 if err.width >= 100 else 10),
            TaskProgressColumn(),
            _Numbers(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True),
        ]
        self._progress = Progress(*columns, console=err, auto_refresh=False)
        self._task = self._progress.add_task("preparing", total=None, numbers="")
        self._best = _Best()
        self._start: RunStarted | None = None
        self._epoch = 1
        self._done = 0
        self._loss: float | None = None
        self._accuracy: float | None = None
        self._averaged: float | None = None
        self._drawn = 0.0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                _print_start(event)
                self._start, self._best, self._done = event, _Best(), 0
                self._progress.update(self._task, total=event.total_epochs * event.steps_per_epoch)
                self._progress.start()
            case Resumed():
                self._best.restore(event.run)
                self._epoch, self._done = event.epoch + 1, event.step
                self._draw()
            case SetupStarted():
                self._draw(f"{event.name}: pretrained features")
            case StepDone():
                self._step(event)
            case Evaluating():
                self._draw(f"evaluating {event.split}")
            case EpochDone():
                self._finish_epoch(event)
            case StoppedEarly():
                self._progress.update(self._task, total=self._done)
                _print(_why_stopped(event))
            case RunFinished():
                self._draw("done")

    def _step(self, event: StepDone) -> None:
        self._epoch = event.epoch
        self._done = (event.epoch - 1) * event.steps_in_epoch + event.step_in_epoch
        if event.loss is not None:
            self._loss = event.loss if self._loss is None else 0.8 * self._loss + 0.2 * event.loss
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw()

    def _finish_epoch(self, event: EpochDone) -> None:
        self._epoch, self._done = event.epoch, event.epoch * (self._start.steps_per_epoch if self._start else 0)
        self._loss = event.row.get("loss", self._loss)
        self._accuracy = event.row.get("val_accuracy")
        self._averaged = event.row.get("ema_val_accuracy")
        self._best.offer(self._accuracy, event.epoch)
        self._draw()

    def _draw(self, description: str = "") -> None:
        total = self._start.total_epochs if self._start else 0
        description = description or f"epoch {self._epoch}/{total}"
        self._progress.update(self._task, completed=self._done, description=description, numbers=self._numbers())
        self._progress.refresh()
        self._drawn = time.monotonic()

    def _numbers(self) -> str:
        parts = [f"loss {decimal(self._loss)}"] if self._loss is not None else []
        if self._best.accuracy is not None:
            parts.append(f"val {percent(self._accuracy)}, best {percent(self._best.accuracy)}")
        if self._averaged is not None:
            parts.append(f"averaged {percent(self._averaged)}")
        return "  ".join(parts)


class _Numbers(ProgressColumn):
    """The running numbers, as they are."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["numbers"])


def _measured_line(event: Measured) -> str:
    known = {name.replace("_", " "): value for name, value in event.values.items() if value is not None}
    return "  ".join([f"  {event.what} after epoch {event.epoch}", *(f"{name} {value:.4g}" for name, value in known.items())])


def _print(text: str) -> None:
    err.print(Text(text), soft_wrap=True)


def _why_stopped(event: StoppedEarly) -> str:
    return f"stopped after epoch {event.epoch} of {event.total_epochs}: {event.by} has not become better since epoch {event.best_epoch}"


def _print_start(event: RunStarted) -> None:
    val, test = (f"{n} {split}" if n else f"no {split}" for n, split in ((event.n_val, "val"), (event.n_test, "test")))
    _print(f"{event.model} ({count(event.parameters)} parameters) with {event.method}, on {event.device}")
    _print(f"{event.classes} classes; {event.n_train} train, {val}, {test}; {event.total_epochs} epochs of {event.steps_per_epoch} steps")
    _print(f"run directory: {event.run}")
    for note in event.notes:
        _print(f"note: {note}")
