"""Run directories below a URL that all machines reach, such as ``s3://bucket/cars``, where they have no folder in common (fsspec).

A run is mirrored file by file under its own names, in the order that its directory grows in: what a checkpoint names before the
checkpoint, ``result.json`` last, and what is no longer there is deleted after that. A worker killed at any moment leaves a run that
another one can go on with. Each file is replaced as a whole.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from holdfast.data.file_systems import locate
from holdfast.errors import ConfigError, HoldfastError, RunError, describe
from holdfast.run.files import atomic_write, is_leftover
from holdfast.training.events import CheckpointSaved, Event

__all__ = ["Mirror", "Storage"]

log = logging.getLogger("holdfast")

RESULT = "result.json"
STATE = "checkpoint/state.pt"

WHOLE_WRITERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"}
"""Stores that show an object only once it is whole, and have no folders that must be made."""

SHARE = 0.1
"""How much of a worker's time may go into mirroring checkpoints; a slow store gets fewer of them."""


class Storage:
    """Runs by key below a URL.

    Args:
        url: As ``--storage`` was given. Whatever it takes to be let in is looked up by the store's own package, never in the URL.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        _check(url)
        self.url = url
        try:
            self._system, self._root = locate(url)
        except HoldfastError as error:
            raise ConfigError(f"--storage {error}") from error
        protocol = self._system.protocol
        self._whole_writer = bool(WHOLE_WRITERS.intersection((protocol,) if isinstance(protocol, str) else protocol))

    def place_mark(self, name: str) -> None:
        """Write a small file, by which others see that they look at the same place.

        Raises:
            RunError: Nothing can be written there.
        """
        with self._explaining("written to"):
            self._make_folder(self._root)
            self._system.pipe_file(f"{self._root}/{name}", b"")

    def has_mark(self, name: str) -> bool:
        """Whether the small file is there."""
        with self._explaining("read"):
            self._system.invalidate_cache()
            return bool(self._system.exists(f"{self._root}/{name}"))

    def remove_mark(self, name: str) -> None:
        """Delete the small file."""
        with suppress(Exception):
            self._system.rm_file(f"{self._root}/{name}")

    def has_finished(self, key: str) -> bool:
        """Whether the whole run is there."""
        return self.has_mark(f"{key}/{RESULT}")

    def fetch(self, key: str, folder: Path, *, checkpoint: bool = True) -> set[str]:
        """Copy a run, as far as it is there, into a folder of this machine.

        Args:
            key: Which run.
            folder: Where to.
            checkpoint: Whether its state for resuming comes too.

        Returns:
            The names of its files.

        Raises:
            RunError: It cannot be read.
        """
        names = [name for name in self._names(key) if checkpoint or not name.startswith("checkpoint/")]
        with self._explaining("copied from"):
            for name in names:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._system.open(f"{self._root}/{key}/{name}", "rb") as source, atomic_write(target) as stream:
                    shutil.copyfileobj(source, stream)
        return set(names)

    def put(self, key: str, name: str, file: Path) -> None:
        """Replace a file of a run."""
        path = f"{self._root}/{key}/{name}"
        if self._whole_writer:
            self._system.put_file(str(file), path)
            return
        folder, _, last = path.rpartition("/")
        self._make_folder(folder)
        temporary = f"{folder}/.tmp~{os.getpid()}~{last}"
        self._system.put_file(str(file), temporary)
        self._system.mv(temporary, path)

    def delete(self, key: str, name: str) -> None:
        """Remove a file of a run, if it is there."""
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{key}/{name}")

    def mirror(self, key: str, folder: Path) -> Mirror:
        """The mirror of a run that is about to be made in a folder of this machine, which gets what is there already."""
        return Mirror(self, key, folder, self.fetch(key, folder))

    def _names(self, key: str) -> list[str]:
        """Files of a run, those that make sense only beside others last."""
        prefix = f"{self._root}/{key}/"
        with self._explaining("read"):
            self._system.invalidate_cache()
            found = self._system.find(prefix.rstrip("/")) if self._system.exists(prefix.rstrip("/")) else []
        names = [str(path).removeprefix(prefix) for path in found]
        return sorted((name for name in names if not is_leftover(Path(name))), key=_rank)

    def _make_folder(self, path: str) -> None:
        if not self._whole_writer:
            self._system.makedirs(path, exist_ok=True)

    @contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        try:
            yield
        except HoldfastError:
            raise
        except Exception as error:  # each store's package has errors of its own
            raise RunError(f"--storage {self.url}: it cannot be {what} ({describe(error)})") from error


class Mirror:
    """Keeps the copy of one run up to date.

    Args:
        storage: Where to.
        key: Which run.
        folder: Its directory on this machine.
        there: Names of the files that the copy has.
    """

    def __init__(self, storage: Storage, key: str, folder: Path, there: set[str]) -> None:
        self._storage, self._key, self._folder = storage, key, folder
        self._sent = {name: _stamp(folder / name) for name in there}
        self._next = 0.0

    def listen(self, event: Event) -> None:
        """A listener of training that copies after checkpoints. A copy that fails is not worth a run: the next may do better."""
        began = time.monotonic()
        if not isinstance(event, CheckpointSaved) or began < self._next:
            return
        try:
            self.push()
        except RunError as error:
            log.warning("%s; training goes on, and would begin again from an older checkpoint", error)
        ended = time.monotonic()
        self._next = ended + (ended - began) * (1 / SHARE - 1)

    def push(self) -> None:
        """Copy what is new, then delete what is no longer here.

        Raises:
            RunError: It cannot be written.
        """
        here = {
            path.relative_to(self._folder).as_posix(): path for path in self._folder.rglob("*") if path.is_file() and not is_leftover(path)
        }
        with self._storage._explaining("written to"):
            for name in sorted(here, key=_rank):
                stamp = _stamp(here[name])
                if self._sent.get(name) != stamp:
                    self._storage.put(self._key, name, here[name])
                    self._sent[name] = stamp
            for name in [name for name in self._sent if name not in here]:
                self._storage.delete(self._key, name)
                del self._sent[name]


def _rank(name: str) -> tuple[int, str]:
    return (name == STATE) + 2 * (name == RESULT), name


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _check(url: str) -> None:
    """Records and messages show the URL, so it may hold nothing secret."""
    parts = urlsplit(url)
    if parts.password is not None or parts.query:
        shown = f"{parts.scheme}://…{parts.path}"
        raise ConfigError(
            f"--storage {shown}: the URL holds a password or key, and would be written into records; leave it out, and put it where the "
            "store's own package looks for it, such as environment variables."
        )
