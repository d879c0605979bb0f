"""Joining a Ray cluster: what an address may look like, and whether anyone answers there before Ray itself would wait for minutes."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
import tempfile
import warnings
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, DependencyError, describe

__all__ = ["check_address", "join", "leave"]

SECONDS = 5.0
"""How long an address has to answer."""

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d{1,5})")

# HTTP/2, which gRPC speaks: what a client says first, with an empty SETTINGS frame, and the kind of frame that a server answers with.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def check_address(address: str, *, spelled: str = "--ray") -> None:
    """Find out, within seconds and without Ray's help, that a cluster can be joined.

    Args:
        address: ``local``, ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        spelled: How the user calls it.

    Raises:
        ConfigError: It is no address, or nothing answers there.
        DependencyError: Ray is not installed.
    """
    if address not in ("local", "auto") and _ADDRESS.fullmatch(address) is None:
        raise ConfigError(f"{spelled} {address}: expected local, auto, HOST:PORT or ray://HOST:PORT, such as 10.0.0.1:6379.")
    if importlib.util.find_spec("ray") is None:
        raise DependencyError(f"{spelled} {address}: the package ray is not installed; type pip install 'holdfast[ray]'")
    told = _told_address() if address == "auto" else address
    match = _ADDRESS.fullmatch(told or "")
    if match is None:  # local; or auto, and Ray looks for processes of this machine
        return
    problem = _problem(match["host"].strip("[]"), int(match["port"]))
    if problem is not None:
        where = address if told == address else f"{address} ({told})"
        raise ConfigError(f"{spelled} {where}: no Ray cluster answers there ({problem}); start one there, or type local instead.")


def join(address: str, *, cpus: int, most: int | None = None) -> bool:
    """Connect this process to a cluster.

    Args:
        address: As for :func:`check_address`.
        cpus: What a worker needs; a cluster of this machine's own has room for one at least.
        most: Workers of a cluster of this machine's own; None for as many as there are CPUs.

    Returns:
        Whether there was anything to do: a process that has joined already stays where it is.

    Raises:
        ConfigError: The cluster cannot be joined.
    """
    check_address(address)
    import ray

    if ray.is_initialized():
        return False
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        room = most * cpus if most is not None else max(cpus, len(os.sched_getaffinity(0)))
        _init(address, num_cpus=room, include_dashboard=False)
    else:
        _init(address)
    return True


def leave() -> None:
    """Disconnect; a cluster of this machine's own ends with that."""
    import ray
    from ray._private import worker

    ray.shutdown()
    worker.print_to_stdstream = _printers.pop()


_printers: list[Any] = []
"""What Ray prints with, while it may not."""


def _init(address: str, **options: Any) -> None:
    import ray
    from ray._private import worker

    # Pages of its own log about a lost node would go to the standard output, whatever its options say.
    _printers.append(getattr(worker, "print_to_stdstream", None))
    worker.print_to_stdstream = lambda *words, **further: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's own affairs
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (Exception, SystemExit) as error:  # it also leaves the process where a cluster stays silent
        worker.print_to_stdstream = _printers.pop()
        raise ConfigError(f"--ray {address}: Ray could not join the cluster ({_first_words(error)}).") from error


def _first_words(error: BaseException) -> str:
    """Ray's reason without its tracebacks; of an error within an error the inner one, which knows more."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    named = "token" in str(error).lower()
    hint = "; where the cluster asks for a token, set RAY_AUTH_MODE=token and have the cluster's token on this machine" if named else ""
    return re.split(r"\. |\n", describe(error), maxsplit=1)[0].rstrip(".:") + hint


def _told_address() -> str | None:
    """What ``auto`` stands for where somebody has said so: the environment, or the last ``ray start`` of this machine."""
    note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or (note.read_text(encoding="utf-8").strip() if note.is_file() else None)


def _problem(host: str, port: int) -> str | None:
    """Why this can be no Ray cluster: Ray would try for two minutes before it said so."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return None  # only Ray has the certificates
            connection.sendall(_PREFACE)
            kind = _read(connection, 4)[3:]
    except TimeoutError:
        return f"no answer in {SECONDS:g} seconds"
    except (OSError, OverflowError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    return None if kind == bytes([_SETTINGS]) else "something else listens at this port"


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data
