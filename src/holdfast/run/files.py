"""Files that are replaced as a whole, and values as JSON and YAML know them."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil

__all__ = ["atomic_write", "disk_is_full", "is_leftover", "one_line", "plain", "remove_leftovers", "sha256_json", "to_json"]

_DAY = 86400.0
_MARK = ".tmp~"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of ``path`` when the block ends without an error.

    The stream belongs to a temporary file beside ``path``; it is synchronised to disk before it is renamed, and removed when the
    block raises. Hand the stream, not its name, to ``torch.save``: only then does a full disk raise an ``OSError``.
    """
    temporary = path.with_name(f"{_MARK}{socket.gethostname()}~{os.getpid()}~{path.name}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary file of :func:`atomic_write`."""
    return path.name.startswith(_MARK)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that were killed; those of a running one stay, for it is about to rename them.

    Whether a process of another machine still runs cannot be seen from here, so its files go after a day.
    """
    for leftover in folder.rglob(f"{_MARK}*"):
        with suppress(OSError, ValueError):
            _, host, process, _ = leftover.name.split("~", 3)
            killed = host == socket.gethostname() and not psutil.pid_exists(int(process))
            if killed or time.time() - leftover.stat().st_mtime > _DAY:
                leftover.unlink()


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one it grew out of, is that of a full disk or an exhausted quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """The message of another library's error on one line, shortened."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if len(text) <= 300 else text[:299] + "…"


def plain(value: Any) -> Any:
    """A value as JSON and YAML know it: NaN and infinity as null, tuples as lists, arrays and their scalars as numbers.

    Example:
        >>> plain({"loss": float("nan"), "interval": (0.1, 0.2)})
        {'loss': None, 'interval': [0.1, 0.2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def to_json(value: Any) -> str:
    """Readable JSON, one key a line, without NaN."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def sha256_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value: keys sorted, no spaces, UTF-8.

    Example:
        >>> sha256_json({"b": 1, "a": 2}) == sha256_json({"a": 2, "b": 1})
        True
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
