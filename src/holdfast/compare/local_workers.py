"""Runs of a comparison by processes of this machine: each makes one after the other, and one that dies takes nothing else with it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from holdfast.compare.cells import Cell, Outcome
from holdfast.compare.dispatch import Dispatcher, Ended, Gone, News, Ready
from holdfast.compare.work import Attempt
from holdfast.compare.worker import PATIENCE, cell_to_json
from holdfast.training.interrupt import StopRequest

__all__ = ["LOG", "LocalWorkers", "run_folder"]

log = logging.getLogger("holdfast")

LOG = "log.txt"
"""What the processes say, in the comparison's directory: tracebacks above all."""


def run_folder(folder: Path, cell: Cell) -> Path:
    """The run directory of a cell."""
    return folder / "runs" / cell.key


class LocalWorkers:
    """An :class:`~holdfast.compare.cells.Executor` of this machine. Processes are started when they are first needed.

    Args:
        folder: The comparison's directory.
        count: How many runs are made at the same time.
        stop: Whether somebody asked to stop.
        devices: What ``CUDA_VISIBLE_DEVICES`` is for each process, in turn; empty where it is left alone.
        threads: Threads of CPU arithmetic of each, where it is known.
    """

    def __init__(self, folder: Path, count: int, *, stop: StopRequest, devices: Sequence[str] = (), threads: int | None = None) -> None:
        self._crew = _Crew(folder, count, devices, threads)
        self._dispatcher = Dispatcher(self._crew, stop, count)
        self._stop = stop

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Make the runs; ends early where somebody asks to stop."""
        yield from self._dispatcher.run(cells)
        if self._stop:
            self.close()

    def close(self) -> None:
        """End all processes; a run that is being made gets the time to write its checkpoint."""
        self._crew.close()


class _Crew:
    """Processes by number."""

    def __init__(self, folder: Path, count: int, devices: Sequence[str], threads: int | None) -> None:
        self._folder, self._count = folder, count
        self._devices, self._threads = devices, threads
        self._numbers = itertools.count()
        self._workers: dict[int, _Worker] = {}
        self._heard: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()

    def hire(self) -> int:
        number = next(self._numbers)
        taken = [worker.slot for worker in self._workers.values()]
        slot = next(slot for slot in itertools.count() if slot not in taken)
        self._workers[number] = _Worker(number, slot, self._environment(slot), self._folder / LOG, self._heard)
        return number

    def give(self, worker: int, cell: Cell) -> None:
        self._workers[worker].begin(cell, run_folder(self._folder, cell))

    def dismiss(self, worker: int) -> None:
        self._workers.pop(worker).kill()

    def listen(self, seconds: float) -> News | None:
        try:
            number, line = self._heard.get(timeout=seconds)
        except queue.Empty:
            return None
        if number not in self._workers:
            return None  # the last words of one that was dismissed
        if line is None:
            return Gone(number, self._workers.pop(number).ending(), blameless=False)
        answer = json.loads(line)
        worker = self._workers[number]
        worker.busy = False
        return Ready(number) if answer is None else Ended(number, Attempt(**answer))

    def close(self) -> None:
        busy = sum(worker.busy for worker in self._workers.values())
        if busy:
            log.warning("stopping: %d %s a checkpoint", busy, "run writes" if busy == 1 else "runs write")
        for worker in self._workers.values():
            worker.dismiss()
        deadline = time.monotonic() + PATIENCE + 10
        try:
            for worker in self._workers.values():
                worker.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()

    def _environment(self, slot: int) -> Mapping[str, str]:
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
        if self._devices:
            found["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        if self._threads is not None:
            found["OMP_NUM_THREADS"] = str(self._threads)
        return found


class _Worker:
    """One process. It leads a session of its own, so that Ctrl-C reaches it through its driver only."""

    def __init__(
        self, number: int, slot: int, environment: Mapping[str, str], log_file: Path, heard: queue.SimpleQueue[tuple[int, bytes | None]]
    ) -> None:
        self.slot = slot
        self.busy = False
        command = [sys.executable, "-P", "-m", "holdfast.compare.worker"]
        with log_file.open("ab") as stream:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, start_new_session=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders = self._process.stdin
        self._listener = threading.Thread(target=_listen, args=(number, self._process.stdout, heard), daemon=True)
        self._listener.start()

    def begin(self, cell: Cell, folder: Path) -> None:
        self.busy = True
        with suppress(BrokenPipeError):  # it has died, which its listener is about to say
            self._orders.write(json.dumps({"cell": cell_to_json(cell), "folder": str(folder)}).encode() + b"\n")
            self._orders.flush()

    def ending(self) -> str:
        """How the process ended, as the tail of a sentence."""
        code = self._process.wait()
        self.dismiss()
        if code >= 0:
            return f"its process ended with status {code}; see {LOG}"
        name = signal.Signals(-code).name
        hint = "; the system does that where memory runs out: try fewer --workers" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"

    def dismiss(self) -> None:
        """Give no more orders, at which it ends."""
        with suppress(BrokenPipeError):
            self._orders.close()

    def wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        """Without a further word, where it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.dismiss()
        self._listener.join()


def _listen(number: int, stream: IO[bytes], heard: queue.SimpleQueue[tuple[int, bytes | None]]) -> None:
    with stream:
        for line in stream:
            heard.put((number, line))
    heard.put((number, None))
