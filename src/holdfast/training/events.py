"""What a training run announces while it goes: plain records for whoever listens.

The loop calls one :data:`Listener` with each event and never waits for an answer. Nothing here imports torch, so progress bars,
log files and tests can be written without it. A listener that raises stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "CheckpointSaved",
    "EpochDone",
    "Evaluating",
    "Event",
    "Listener",
    "Measured",
    "Resumed",
    "RunFinished",
    "RunStarted",
    "SetupStarted",
    "StepDone",
    "StoppedEarly",
    "ignore",
    "together",
]


@dataclass(frozen=True)
class RunStarted:
    """Data and network are ready.

    Args:
        run: The run directory, as the user typed it.
        model: Its spec, such as ``timm:resnet50``.
        method: Names joined by ``+``.
        classes: K.
        n_train: Examples to train on.
        n_val: Examples held out for selection, 0 for none.
        n_test: Examples of the test split, 0 for none.
        parameters: Trained numbers of the network.
        device: Where it computes, in words.
        total_epochs: Epochs of the whole run.
        steps_per_epoch: Optimizer steps of an epoch.
        notes: Sentences the user should read, such as "no validation split: the last epoch is kept".
    """

    run: str
    model: str
    method: str
    classes: int
    n_train: int
    n_val: int
    n_test: int
    parameters: int
    device: str
    total_epochs: int
    steps_per_epoch: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetupStarted:
    """The term ``name`` looks at the pretrained features, before the first step."""

    name: str


@dataclass(frozen=True)
class Resumed:
    """Training goes on from a checkpoint: ``epoch`` whole epochs and ``step`` optimizer steps are done."""

    run: str
    epoch: int
    step: int


@dataclass(frozen=True)
class StepDone:
    """An optimizer step is done; counters are 1-based.

    Args:
        epoch: Its epoch.
        step_in_epoch: Which step of the epoch it was.
        steps_in_epoch: Steps of an epoch.
        loss: Mean loss since the epoch began. It is read off the device every 50 steps, and None in between.
        step: Which step of the run it was.
        lr: Learning rate of the backbone in this step.
        means: With ``loss``, the means since the epoch began of everything that is counted at each step: ``loss``, one entry a term,
            ``train_accuracy``; empty in between.
    """

    epoch: int
    step_in_epoch: int
    steps_in_epoch: int
    loss: float | None = None
    step: int = 0
    lr: float | None = None
    means: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluating:
    """A pass over a split without training begins."""

    split: str


@dataclass(frozen=True)
class EpochDone:
    """An epoch (1-based) is done and evaluated.

    Args:
        epoch: Which one.
        total_epochs: Epochs of the whole run.
        row: Its row of ``history.csv``: epoch, step, lr, loss, one column a term, train_accuracy, val_accuracy, val_loss,
            seconds; ``gradient_norm`` with ``--clip-norm``, ``ema_val_accuracy`` and ``ema_val_loss`` with ``--ema``.
    """

    epoch: int
    total_epochs: int
    row: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Something beside validation was measured on the network, as ``--track features`` asks for.

    Args:
        what: Such as ``features``.
        epoch: Whole epochs done; 0 for the pretrained network.
        step: Optimizer steps done.
        values: The numbers by name.
    """

    what: str
    epoch: int
    step: int
    values: Mapping[str, float | int | None]


@dataclass(frozen=True)
class StoppedEarly:
    """Training ended after ``epoch`` (1-based) because no epoch since ``best_epoch`` was better by the criterion ``by``."""

    epoch: int
    total_epochs: int
    by: str
    best_epoch: int


@dataclass(frozen=True)
class CheckpointSaved:
    """A state that ``--resume`` can go on from is on disk."""

    path: str
    step: int


@dataclass(frozen=True)
class RunFinished:
    """The run directory is complete; ``result`` is the content of its ``result.json``."""

    run: str
    result: Mapping[str, Any]


Event = RunStarted | SetupStarted | Resumed | StepDone | Evaluating | EpochDone | Measured | StoppedEarly | CheckpointSaved | RunFinished
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of those who do not listen."""


def together(*listeners: Listener) -> Listener:
    """A listener that passes each event on to several, in order.

    Example:
        >>> together(print, lambda event: print(event.split, "again"))(Evaluating("val"))
        Evaluating(split='val')
        val again
    """

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen
