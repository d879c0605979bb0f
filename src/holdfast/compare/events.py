"""What a comparison announces while it goes. No import of torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.compare.cells import Outcome, Setting

if TYPE_CHECKING:
    from holdfast.compare.forecast import Forecast

__all__ = ["Averaging", "CellEnded", "Event", "Listener", "Planned", "Probing", "Reading", "TrialChosen", "ignore"]


@dataclass(frozen=True)
class Reading:
    """Data and networks are about to be read, to find out which runs are finished."""


@dataclass(frozen=True)
class Probing:
    """A method is about to be tried on a setting: checked, and where it is cheap timed."""

    method: str
    setting: Setting


@dataclass(frozen=True)
class Planned:
    """All is known to be good; the runs begin."""

    forecast: Forecast


@dataclass(frozen=True)
class CellEnded:
    """A run is finished, or cannot be made.

    Args:
        outcome: Which, and how.
        accuracy: On the test split, of a tuning run on the validation split; None where there is none, or it failed.
        done: Runs that have ended so far, those of earlier starts included.
        total: Runs there will be.
        seconds_left: How long the rest will take, as far as can be told.
    """

    outcome: Outcome
    accuracy: float | None
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class TrialChosen:
    """The search of a method in a setting is over.

    Args:
        method: Its label.
        setting: What it was searched on.
        data_seed: With which splits.
        trial: The one that is compared, or None where none could be trained.
        accuracy: Its mean validation accuracy.
        trials: How many there were.
    """

    method: str
    setting: Setting
    data_seed: int
    trial: str | None
    accuracy: float | None
    trials: int


@dataclass(frozen=True)
class Averaging:
    """The runs have ended; weights of the finished ones are about to be averaged."""


Event = Reading | Probing | Planned | CellEnded | TrialChosen | Averaging
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of those who do not listen."""
