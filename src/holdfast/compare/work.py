"""The work of one cell: the run that it stands for, begun or gone on with. Whoever makes cells, here or on a cluster, calls this."""

from __future__ import annotations

import fcntl
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.compare.cells import Cell
from holdfast.config.layers import from_yaml
from holdfast.config.load import resolve
from holdfast.errors import HoldfastError, Interrupted, describe
from holdfast.run.files import disk_is_full
from holdfast.run.storage import CONFIG
from holdfast.training.events import Listener, ignore

__all__ = ["ATTEMPTS", "Attempt", "attempt", "make_run"]

ATTEMPTS = 2
"""How often a cell is tried whose process dies or fails for a reason that may pass; each time goes on from the last checkpoint."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt at a cell ended.

    Attributes:
        error: One sentence, or None where the run is finished.
        seconds: What it took.
        may_pass: Whether another attempt can end otherwise: not after an error that holdfast raised on purpose.
        stops: Whether other cells would fail in the same way, as on a full disk.
    """

    error: str | None
    seconds: float
    may_pass: bool = False
    stops: bool = False


def make_run(cell: Cell, folder: Path, *, listener: Listener = ignore) -> None:
    """Make the run of a cell in this process, from wherever its directory stands; a finished one is left as it is.

    Args:
        cell: Which.
        folder: Its run directory, new, empty, or begun earlier.
        listener: Called with the events of training.

    Raises:
        Interrupted: A signal asked to stop; a checkpoint has been written.
        HoldfastError: The run cannot be made.
    """
    from holdfast.recipes import fit_config, resume

    with _alone(folder):
        if (folder / CONFIG).is_file():
            resume(folder, overrides={}, listener=listener)
        else:
            fit_config(resolve([from_yaml(f"cell {cell.key}", {**cell.options, "out": str(folder)})]), listener=listener)


def attempt(
    cell: Cell, folder: Path, *, listener: Listener = ignore, failed: Callable[[BaseException], None] = lambda error: None
) -> Attempt:
    """:func:`make_run`, with its errors in words.

    Args:
        cell: Which.
        folder: Its run directory.
        listener: Called with the events of training.
        failed: Called with the error of a run that could not be made, as long as its traceback is there.

    Raises:
        Interrupted: A signal asked to stop; a checkpoint has been written.
    """
    began = time.perf_counter()
    try:
        make_run(cell, folder, listener=listener)
    except Interrupted:
        raise
    except Exception as error:
        failed(error)
        expected = isinstance(error, HoldfastError)
        return Attempt(describe(error), time.perf_counter() - began, may_pass=not expected, stops=disk_is_full(error))
    finally:
        _forget()
    return Attempt(None, time.perf_counter() - began)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes this run: one whose driver was killed may still be writing its checkpoint.

    The lock belongs to the open file, so that it goes with the process however that ends.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _forget() -> None:
    """What a run leaves behind in a process that will make another."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
