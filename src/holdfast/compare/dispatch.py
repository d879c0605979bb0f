"""Who makes which run next: cells for a crew whose workers come, go and die. Knows nothing of how the crew is reached."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from holdfast.compare.cells import Cell, Outcome
from holdfast.compare.work import ATTEMPTS, Attempt
from holdfast.errors import RunError
from holdfast.training.interrupt import StopRequest

__all__ = ["Crew", "Dispatcher", "Ended", "Gone", "News", "Ready", "Refused"]

log = logging.getLogger("holdfast")

MOST_STARTS = 50
"""How often a cell is started at all: nodes may be taken away many times, but not for ever."""

FIRST_CALL = 16
"""Workers that are asked for at first; later as many again as are at work, so that a cluster is full after a few rounds."""

PATIENCE_WITH_STARTS = 5
"""How many workers in a row may die before they are ready."""

_GLANCE = 0.5
"""Seconds between two looks at whether somebody asked to stop."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker can be given cells."""

    worker: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot make runs where it is, and another there could not either."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker is done with its cell; ``attempt`` is None where its machine told it to stop, and it wrote a checkpoint."""

    worker: int
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker is no more; ``blameless`` where its machine was lost, which is not the fault of what it did."""

    worker: int
    reason: str
    blameless: bool


News = Ready | Refused | Ended | Gone


class Crew(Protocol):
    """Workers by number, each of which does one thing at a time."""

    def hire(self) -> int:
        """Ask for one more; it is there when it says so, which may be never."""

    def give(self, worker: int, cell: Cell) -> None:
        """Let a worker that is ready make a run."""

    def dismiss(self, worker: int) -> None:
        """Let go of a worker, whatever it does."""

    def listen(self, seconds: float) -> News | None:
        """The next thing that happened, or None where nothing did."""


@dataclass(slots=True)
class _Job:
    """A cell on its way."""

    cell: Cell
    starts: int = 0
    failures: int = 0
    seconds: float = 0.0
    began: float = 0.0


class Dispatcher:
    """Hands out cells, hires while there is something left to do, and gives a cell to another worker where one is lost.

    Args:
        crew: Who makes the runs.
        stop: Whether somebody asked to stop.
        most: Workers at the same time; None for as many as there is room for.
    """

    def __init__(self, crew: Crew, stop: StopRequest, most: int | None = None) -> None:
        self._crew, self._stop, self._most = crew, stop, most
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, _Job] = {}
        self._lost_starts = 0
        self._refusal: str | None = None

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Outcomes as they come; ends early where somebody asks to stop. Workers that are ready stay for the next cells.

        Raises:
            RunError: No worker can make runs.
        """
        waiting = deque(_Job(cell) for cell in cells)
        while (waiting or self._busy) and not self._stop:
            self._hand_out(waiting)
            self._hire(len(waiting))
            self._check_hope()
            news = self._crew.listen(_GLANCE)
            if (ended := self._take(news)) is not None:
                yield from self._settle(*ended, waiting)
        for worker in self._starting:
            self._crew.dismiss(worker)
        self._starting.clear()

    def _hand_out(self, waiting: deque[_Job]) -> None:
        while waiting and self._idle:
            job, worker = waiting.popleft(), self._idle.pop()
            job.starts += 1
            job.began = time.monotonic()
            self._busy[worker] = job
            self._crew.give(worker, job.cell)

    def _hire(self, waiting: int) -> None:
        if self._refusal is not None:
            return
        there = len(self._starting) + len(self._idle) + len(self._busy)
        room = waiting if self._most is None else self._most - there
        wanted = min(waiting, max(FIRST_CALL, len(self._busy))) - len(self._starting)
        for _ in range(min(wanted, room)):
            self._starting.add(self._crew.hire())

    def _check_hope(self) -> None:
        if self._refusal is not None and not (self._starting or self._idle or self._busy):
            raise RunError(self._refusal)

    def _take(self, news: News | None) -> tuple[_Job, Attempt, bool] | None:
        """What follows for the crew; the job that ended by it, how, and whether it had no part in that."""
        match news:
            case Ready(worker):
                self._starting.discard(worker)
                self._idle.append(worker)
                self._lost_starts = 0
            case Refused(worker, reason):
                self._starting.discard(worker)
                self._crew.dismiss(worker)
                self._refuse(reason)
            case Ended(worker, None):
                self._crew.dismiss(worker)
                return self._left_behind(worker, "its machine told it to stop", blameless=True)
            case Ended(worker, Attempt() as attempt):
                self._idle.append(worker)
                return self._busy.pop(worker), attempt, False
            case Gone(worker, reason, blameless):
                return self._mourn(worker, reason, blameless)
        return None

    def _mourn(self, worker: int, reason: str, blameless: bool) -> tuple[_Job, Attempt, bool] | None:
        if worker in self._busy:
            return self._left_behind(worker, reason, blameless)
        with suppress(ValueError):
            self._idle.remove(worker)
        if worker in self._starting:
            self._starting.remove(worker)
            self._lost_starts += 1
            if self._lost_starts == PATIENCE_WITH_STARTS:
                self._refuse(f"{self._lost_starts} workers in a row died before they could begin; the last: {reason}")
        return None

    def _left_behind(self, worker: int, reason: str, blameless: bool) -> tuple[_Job, Attempt, bool]:
        job = self._busy.pop(worker)
        return job, Attempt(reason, time.monotonic() - job.began, may_pass=True), blameless

    def _refuse(self, reason: str) -> None:
        """Without more workers than there are: where one could not begin, the next would not either."""
        if self._refusal is None and (self._idle or self._busy):
            log.warning("no more workers are started: %s", reason)
        self._refusal = self._refusal or reason

    def _settle(self, job: _Job, attempt: Attempt, blameless: bool, waiting: deque[_Job]) -> Iterator[Outcome]:
        job.seconds += attempt.seconds
        job.failures += attempt.error is not None and not blameless
        if attempt.may_pass and job.failures < ATTEMPTS and job.starts < MOST_STARTS:
            log.info("cell %s goes on elsewhere: %s", job.cell.key, attempt.error)
            waiting.appendleft(job)
        else:
            yield Outcome(job.cell, attempt.error, job.seconds, job.starts, attempt.stops)
