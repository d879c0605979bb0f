"""What is shown while a comparison goes: the plan, a line for each run that ends, on a terminal also a bar. All of it goes to stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from holdfast.cli.compare_forecast import print_forecast, setting_words
from holdfast.cli.terminal import err
from holdfast.compare.cells import Cell
from holdfast.compare.events import Averaging, CellEnded, Event, Listener, Planned, Probing, Reading, TrialChosen, ignore
from holdfast.wording import duration, percent

__all__ = ["progress"]


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Listener]:
    """A listener that shows the events of a comparison until the block ends.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield ignore
        return
    with _bar() as bar:
        yield _Lines(bar)


def _bar() -> Progress:
    """How many runs are done. It moves when one ends, and where there is no terminal it is not there."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.completed:.0f}/{task.total:.0f} runs"))
    return Progress(
        *columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=err, transient=True, disable=not err.is_terminal
    )


class _Lines:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._settings = 1

    def __call__(self, event: Event) -> None:
        match event:
            case Reading():
                _print("reading data and networks")
            case Probing():
                _print(f"trying {event.method} on {setting_words(event.setting)}")
            case Planned():
                self._begin(event)
            case CellEnded():
                self._ended(event)
            case TrialChosen():
                _print(_chosen(event))
            case Averaging():
                _print("averaging weights of the finished runs")

    def _begin(self, event: Planned) -> None:
        forecast = event.forecast
        print_forecast(forecast, None, err)
        self._settings = len(forecast.plan.shape.settings)
        self._task = self._bar.add_task("comparing", total=forecast.total, completed=forecast.finished, left="")

    def _ended(self, event: CellEnded) -> None:
        cell, outcome = event.outcome.cell, event.outcome
        width = len(str(event.total))
        left = "" if not event.seconds_left else f"{duration(event.seconds_left)} left"
        ending = f"failed: {outcome.error}" if outcome.error is not None else _accuracy(event)
        parts = [f"{event.done:{width}d}/{event.total}", self._name(cell), ending, duration(outcome.seconds), left]
        _print("  ".join(part for part in parts if part))
        if self._task is not None:
            self._bar.update(self._task, completed=event.done, left=left)

    def _name(self, cell: Cell) -> str:
        where = f" on {setting_words(cell.setting)}" if self._settings > 1 else ""
        trial = f" ({cell.trial})" if cell.trial else ""
        return f"{'tuning ' if cell.tuning else ''}{cell.method}{trial}{where}, seed {cell.seed}, data seed {cell.data_seed}"


def _accuracy(event: CellEnded) -> str:
    split = "val" if event.outcome.cell.tuning else "test"
    again = " (second attempt)" if event.outcome.attempts > 1 else ""
    return f"{split} {percent(event.accuracy)}{again}"


def _chosen(event: TrialChosen) -> str:
    where = f"{event.method} on {setting_words(event.setting)}, data seed {event.data_seed}"
    if event.trial is None:
        return f"{where}: none of {event.trials} trials could be trained"
    return f"{where}: {event.trial} is the best of {event.trials} trials, val {percent(event.accuracy)}"


def _print(text: str) -> None:
    err.print(Text(text), soft_wrap=True)
