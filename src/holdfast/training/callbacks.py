"""What is measured on the network while it trains, beside its validation; composed in ``build``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from holdfast.training.events import Measured

__all__ = ["Callback", "measure", "rewind"]


class Callback(Protocol):
    """Looks at the network between epochs, on all ranks together, and leaves no trace in training: modes and random states stay.

    It writes what it measured by itself, before the checkpoint that says the epoch is done; ``rewind`` takes back what a resumed run
    will measure again.
    """

    @property
    def name(self) -> str:
        """What is measured, such as ``features``."""

    def rewind(self, step: int) -> None:
        """Forget what lies beyond ``step`` optimizer steps; everything for -1."""

    def measure(self, epoch: int, step: int) -> Mapping[str, float | int | None]:
        """Measure after so many epochs and steps; epoch 0 is the network before its first step. Nothing returned is nothing announced."""


def measure(callbacks: Sequence[Callback], epoch: int, step: int) -> list[Measured]:
    """Let all callbacks measure; the events are to be announced once a checkpoint says that the epoch is done."""
    found = [(callback.name, callback.measure(epoch, step)) for callback in callbacks]
    return [Measured(name, epoch, step, values) for name, values in found if values]


def rewind(callbacks: Sequence[Callback], step: int) -> None:
    """Let all callbacks forget what lies beyond ``step`` optimizer steps; everything for -1."""
    for callback in callbacks:
        callback.rewind(step)
