"""Runs of a comparison on a Ray cluster: warm workers that import torch once, as many as there is room for.

A worker is an actor that takes ``cpus`` and ``gpus``. Those that do not fit yet wait, so that a node that joins later is used. One that
dies is replaced, and its cell goes on elsewhere from its own checkpoint: in the comparison's directory where all nodes see that, else
in ``--storage``.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import os
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.compare.cells import Cell, Outcome
from holdfast.compare.dispatch import Dispatcher, Ended, Gone, News, Ready, Refused
from holdfast.compare.local_workers import LOG, run_folder
from holdfast.compare.ray_cluster import join, leave
from holdfast.compare.storage import Storage
from holdfast.compare.work import Attempt, attempt
from holdfast.compare.worker import PATIENCE
from holdfast.errors import HoldfastError, Interrupted, RunError, describe
from holdfast.run.files import disk_is_full
from holdfast.training.interrupt import StopRequest

__all__ = ["Place", "RayWorkers", "Worker", "gpu_share"]

log = logging.getLogger("holdfast")

_OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_OF_LAUNCHERS = ("SLURM_", "PMI_", "PMIX_", "OMPI_", "MV2_", "MPI_")
"""What a cluster that was started by ``srun`` or ``mpirun`` has of it. Its workers are no ranks of one run."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are kept, as each worker is told.

    Attributes:
        folder: The comparison's directory.
        storage: ``--storage``, or None where all nodes see the directory.
        mark: Name of a file there, by which a worker sees that it looks at the same place.
        directory: Where the driver was started: what relative paths are relative to.
        environment: Variables of the driver that a run looks at.
    """

    folder: str
    storage: str | None
    mark: str
    directory: str
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Card:
    """How a worker introduces itself: where it is, and why it cannot make runs there."""

    node: str
    process: int
    complaint: str | None


class Worker:
    """What runs on a node. Ray calls a method at a time, in the main thread, so that a run can catch SIGTERM."""

    def __init__(self, place: Place) -> None:
        self._place = place
        with suppress(OSError):
            os.chdir(place.directory)
        for name in [name for name in os.environ if name in _OF_RANKS or name.startswith(_OF_LAUNCHERS)]:
            del os.environ[name]
        os.environ.update(place.environment)
        import holdfast.recipes.robust_labels  # noqa: F401  # with all that a run needs, torch above all

    def report(self, version: str) -> Card:
        """Look around."""
        import ray

        return Card(ray.get_runtime_context().get_node_id(), os.getpid(), self._complaint(version))

    def make(self, cell: Cell) -> tuple[Attempt | None, str]:
        """Make the run of a cell; None where this process was told to stop, and the traceback where it failed unexpectedly."""
        tracebacks: list[str] = []

        def note(error: BaseException) -> None:
            tracebacks.append("".join(traceback.format_exception(error)))

        try:
            ended = self._in_storage(cell, note) if self._place.storage else attempt(cell, self._shared(cell), failed=note)
        except Interrupted:
            return None, ""
        return ended, "".join(tracebacks)

    def _shared(self, cell: Cell) -> Path:
        return run_folder(Path(self._place.folder), cell)

    def _in_storage(self, cell: Cell, note: Any) -> Attempt:
        """In a folder of this node, with what the storage has of the run; where the storage fails, another attempt may not."""
        assert self._place.storage is not None
        began = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(prefix="holdfast-") as scratch:
                folder = Path(scratch, cell.key)
                mirror = Storage(self._place.storage).mirror(cell.key, folder)
                try:
                    return attempt(cell, folder, listener=mirror.listen, failed=note)
                finally:
                    mirror.push()
        except RunError as error:
            note(error)
            return Attempt(describe(error), time.perf_counter() - began, may_pass=True, stops=disk_is_full(error))

    def _complaint(self, version: str) -> str | None:
        node = socket.gethostname()
        here = _version()
        if here != version:
            return f"--ray: {node} has holdfast {here}, and this machine {version}; install the same on both."
        if self._place.storage is None:
            if not Path(self._place.folder, self._place.mark).exists():
                return (
                    f"--out {self._place.folder}: the node {node} does not see this directory; "
                    "choose one on a shared file system, or give --storage URL."
                )
        elif not Storage(self._place.storage).has_mark(self._place.mark):
            return (
                f"--storage {self._place.storage}: the node {node} finds something else there; give a URL that means the same everywhere."
            )
        return None


class RayWorkers:
    """An :class:`~holdfast.compare.cells.Executor` on a Ray cluster.

    Args:
        folder: The comparison's directory.
        address: ``local``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        stop: Whether somebody asked to stop.
        cpus: CPUs of each run.
        device: ``--device`` of the runs: with ``cpu`` they take no GPUs.
        count: Runs at the same time; None for as many as the cluster has room for, where it has GPUs one on each. More of them than
            GPUs share those.
        storage: ``--storage``, for nodes that do not see the directory.

    Raises:
        ConfigError: The cluster does not answer, or the storage cannot be used.
        RunError: The storage cannot be written.
        DependencyError: Ray, or what the storage needs, is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str,
        stop: StopRequest,
        cpus: int = 1,
        device: str = "auto",
        count: int | None = None,
        storage: str | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._storage = Storage(storage) if storage is not None else None
        self._joined = join(address, cpus=cpus, most=count)
        self._mark = f".here~{socket.gethostname()}~{os.getpid()}"
        try:
            self._place_mark()
            environment = {name: value for name, value in os.environ.items() if name.startswith("HOLDFAST_")}
            place = Place(str(self._folder), storage, self._mark, os.getcwd(), {**environment, "OMP_NUM_THREADS": str(cpus)})
            self._crew = _RayCrew(place, cpus, device, count, self._folder / LOG)
        except BaseException:
            self._leave()
            raise
        self._dispatcher = Dispatcher(self._crew, stop, count)
        self._stop = stop
        self._closed = False

    def run(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Make the runs; ends early where somebody asks to stop."""
        waiting = list(cells)
        if self._storage is not None:
            waiting = [cell for cell in cells if not self._storage.has_finished(cell.key)]
            yield from (self._bring_home(Outcome(cell, None, 0.0, 0)) for cell in cells if cell not in waiting)
        yield from (self._bring_home(outcome) for outcome in self._dispatcher.run(waiting))
        if self._stop:
            self.close()

    def close(self) -> None:
        """Let go of all workers; a run that is being made gets the time to write its checkpoint. A cluster of our own ends."""
        if self._closed:
            return
        self._closed = True
        try:
            self._crew.dismiss_all()
        finally:
            self._leave()

    def _leave(self) -> None:
        (self._folder / self._mark).unlink(missing_ok=True)
        if self._storage is not None:
            self._storage.remove_mark(self._mark)
        if self._joined:
            leave()

    def _place_mark(self) -> None:
        if self._storage is not None:
            self._storage.place_mark(self._mark)
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / self._mark).touch()

    def _bring_home(self, outcome: Outcome) -> Outcome:
        """A finished run into the comparison's directory, for its numbers."""
        if self._storage is None or outcome.error is not None:
            return outcome
        try:
            self._storage.fetch(outcome.cell.key, run_folder(self._folder, outcome.cell), checkpoint=False)
        except RunError as error:
            return dataclasses.replace(outcome, error=describe(error), stops=disk_is_full(error))
        return outcome


class _RayCrew:
    """Actors by number."""

    def __init__(self, place: Place, cpus: int, device: str, count: int | None, log_file: Path) -> None:
        import ray

        gpus = gpu_share(device, count, int(ray.cluster_resources().get("GPU", 0)))
        _warn_without_room(cpus, gpus)
        self._actor = ray.remote(Worker).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)
        self._place, self._log_file = place, log_file
        self._numbers = itertools.count()
        self._actors: dict[int, Any] = {}
        self._cards: dict[int, Card] = {}
        self._cells: dict[int, Cell] = {}
        self._promises: dict[Any, int] = {}

    def hire(self) -> int:
        worker = next(self._numbers)
        self._actors[worker] = self._actor.remote(self._place)
        self._promises[self._actors[worker].report.remote(_version())] = worker
        return worker

    def give(self, worker: int, cell: Cell) -> None:
        self._cells[worker] = cell
        self._promises[self._actors[worker].make.remote(cell)] = worker

    def dismiss(self, worker: int) -> None:
        import ray

        self._promises = {promise: number for promise, number in self._promises.items() if number != worker}
        self._cards.pop(worker, None)
        self._cells.pop(worker, None)
        ray.kill(self._actors.pop(worker))

    def listen(self, seconds: float) -> News | None:
        import ray

        if not self._promises:
            time.sleep(seconds)
            return None
        kept, _ = ray.wait(list(self._promises), num_returns=1, timeout=seconds)
        return self._news(kept[0], self._promises.pop(kept[0])) if kept else None

    def dismiss_all(self) -> None:
        """Ask runs to stop, wait as long as they need for a checkpoint, and end all workers."""
        import ray

        for worker in self._cells:
            self._ask_to_stop(self._cards[worker])
        promises = [promise for promise, worker in self._promises.items() if worker in self._cells]
        if promises:
            ray.wait(promises, num_returns=len(promises), timeout=PATIENCE)
        for worker in list(self._actors):
            self.dismiss(worker)

    def _news(self, promise: Any, worker: int) -> News:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        cell = self._cells.pop(worker, None)
        try:
            answer = ray.get(promise)
        except RayActorError as error:
            blameless = self._is_blameless(worker, error)
            self.dismiss(worker)
            return Refused(worker, _reason(error)) if error.actor_init_failed else Gone(worker, _reason(error), blameless)
        except RayTaskError as error:
            return Refused(worker, _reason(error)) if cell is None else Ended(worker, Attempt(_reason(error), 0.0))
        if isinstance(answer, Card):
            self._cards[worker] = answer
            return Ready(worker) if answer.complaint is None else Refused(worker, answer.complaint)
        ended, text = answer
        self._log(cell, text)
        return Ended(worker, ended)

    def _is_blameless(self, worker: int, error: Any) -> bool:
        """Whether the node went, not only the process on it; of a node that is out of reach nobody knows yet."""
        import ray
        from ray.exceptions import ActorUnavailableError

        node = self._cards[worker].node if worker in self._cards else None
        alive = {entry["NodeID"]: entry["Alive"] for entry in ray.nodes()}
        return isinstance(error, ActorUnavailableError) or error.preempted or not alive.get(node, True)

    def _ask_to_stop(self, card: Card) -> None:
        """SIGTERM from a process of the same node: Ray itself only ends actors without a word."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(card.node, soft=False)
        ray.remote(_terminate).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(card.process)

    def _log(self, cell: Cell | None, text: str) -> None:
        if text and cell is not None:
            with self._log_file.open("a", encoding="utf-8") as stream:
                stream.write(f"--- {cell.method}, seed {cell.seed}, data seed {cell.data_seed} (runs/{cell.key})\n{text}")


def _terminate(process: int) -> None:
    os.kill(process, signal.SIGTERM)


def _version() -> str:
    from importlib import metadata

    return metadata.version("holdfast")


def _reason(error: BaseException) -> str:
    """What happened to a worker, without Ray's tracebacks and advice."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HoldfastError):
        return describe(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("The actor is dead because", "The actor died because", "ModuleNotFoundError"))]
    return (telling or lines or [type(error).__name__])[-1].split(". ")[0]


def gpu_share(device: str, count: int | None, gpus: int) -> float:
    """What a worker takes of a GPU: none, one, or as little as lets ``count`` workers share what the cluster has.

    Example:
        >>> gpu_share("auto", None, 4), gpu_share("auto", 8, 4), gpu_share("auto", 9, 4), gpu_share("cpu", 8, 4)
        (1.0, 0.5, 0.3333333333333333, 0.0)
    """
    if device == "cpu" or not gpus:
        return 0.0
    return 1 / math.ceil(count / gpus) if count is not None and count > gpus else 1.0


def _warn_without_room(cpus: int, gpus: float) -> None:
    """Say that no node is large enough for a run; one that is may join later."""
    import ray

    sizes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(size.get("CPU", 0) >= cpus and size.get("GPU", 0) >= gpus for size in sizes):
        need = f"{cpus} CPU{'s' * (cpus > 1)}" + (f" and {gpus:g} GPU" if gpus else "")
        log.warning("--ray: no node has the %s of a run; waiting for one that joins, or stop and give fewer --threads", need)
