"""The directory of a comparison: who may work in it, what was asked, and what failed."""

from __future__ import annotations

import fcntl
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import yaml

from holdfast.compare.cells import Cell, Outcome
from holdfast.compare.local_workers import LOG, run_folder
from holdfast.config.yaml_file import yaml_layer
from holdfast.errors import RunError
from holdfast.run import Run
from holdfast.run.files import is_leftover, plain, to_json
from holdfast.run.storage import CONFIG, RunFiles

__all__ = ["ASKED", "FAILURES", "Folder"]

ASKED = "comparison.yaml"
FAILURES = "failures.json"
LOCK = ".lock"


class Folder(RunFiles):
    """The directory of a comparison.

    - ``comparison.yaml``: what was asked, complete
    - ``runs/KEY/``: ordinary run directories
    - ``comparison.json``, ``.csv``, ``.tex``, ``.html``: what they show
    - ``failures.json``: runs that could not be made, while there are some
    - ``log.txt``: what the processes said

    Args:
        path: ``--out``.

    Raises:
        RunError: Something else is there, or no directory can be made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: TextIO | None = None
        if self.path.exists():
            self._check_own()
        else:
            Run.check_vacant(self.path)

    @property
    def go_on_command(self) -> str:
        """What to type to go on."""
        return f"holdfast compare --config {shlex.quote(str(self.path / ASKED))} --out {shlex.quote(str(self.path))}"

    @property
    def asked(self) -> Mapping[str, Any]:
        """What an earlier start was asked; empty before the first.

        Raises:
            ConfigError: The file is damaged.
        """
        return yaml_layer(str(self.path / ASKED)).values if self.has(ASKED) else {}

    @property
    def data(self) -> Mapping[str, str]:
        """Fingerprints of the datasets of an earlier start, by how they were called."""
        if not self.has(ASKED):
            return {}
        versions = (yaml.safe_load(self._read(ASKED)) or {}).get("versions") or {}
        return dict(versions.get("data") or {})

    def begin(self) -> None:
        """Make the directory, and keep every other comparison out of it until this process ends, however it ends.

        Raises:
            RunError: Another process works in it, or it cannot be made.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("a+")
        except OSError as error:
            raise RunError(f"--out: cannot make the directory {str(self.path)!r}: {error.strerror}; choose another place") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            who = lock.read().strip()
            lock.close()
            raise RunError(
                f"--out {self.path}: another comparison is working in it ({who or 'an unknown process'}); wait for it, or stop it first"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        self._lock = lock

    def begin_if_there(self) -> None:
        """:meth:`begin`, where there is a directory: one that must not be shared is better known before the work of planning."""
        if self.path.exists():
            self.begin()

    def end(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def finished(self, cell: Cell) -> Run | None:
        """The run of a cell, where it is finished.

        Raises:
            RunError: It is damaged.
        """
        place = run_folder(self.path, cell)
        if not (place / CONFIG).is_file():
            return None
        run = Run.open(place)
        return run if run.finished else None

    def write_asked(self, asked: Mapping[str, Any], data: Mapping[str, str]) -> None:
        """Write ``comparison.yaml``.

        Raises:
            RunError: It cannot be written.
        """
        names = ("holdfast", "torch")
        versions = {name: _version(name) for name in names} | {"python": platform.python_version()}
        record = {**versions, "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "data": dict(data)}
        header = f"# To go on with this comparison: {self.go_on_command}\n"
        text = yaml.safe_dump({**plain(asked), "versions": record}, sort_keys=False, allow_unicode=True, width=1000)
        self._write(ASKED, header + text)

    def write_failures(self, outcomes: Sequence[Outcome]) -> None:
        """Write ``failures.json``, or remove it where nothing has failed.

        Raises:
            RunError: It cannot be written.
        """
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            self._write(FAILURES, to_json({"schema": 1, "failures": [_failure(outcome) for outcome in failed]}))
        else:
            (self.path / FAILURES).unlink(missing_ok=True)

    def _after_full_disk(self) -> str:
        return f"finished runs are kept: free space and type `{self.go_on_command}`"

    def _check_own(self) -> None:
        if not self.path.is_dir():
            raise RunError(f"--out: {str(self.path)!r} is a file; choose a directory")
        if self.has(CONFIG):
            raise RunError(f"--out: {str(self.path)!r} is a run of 'holdfast fit'; choose another directory")
        known = {ASKED, LOCK, LOG}
        strange = sorted(entry.name for entry in self.path.iterdir() if entry.name not in known and not is_leftover(entry))
        if strange and not self.has(ASKED):
            raise RunError(
                f"--out: {str(self.path)!r} is not empty (it contains {strange[0]!r}) and is no comparison; choose another --out"
            )


def _failure(outcome: Outcome) -> dict[str, Any]:
    cell, setting = outcome.cell, outcome.cell.setting
    place = {"data": setting.data, "model": setting.model, "fraction": setting.fraction, "seed": cell.seed, "data_seed": cell.data_seed}
    what = {"method": cell.method, **place, "trial": cell.trial, "tuning": cell.tuning, "run": f"runs/{cell.key}"}
    return {**what, "error": outcome.error, "attempts": outcome.attempts, "seconds": outcome.seconds}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
