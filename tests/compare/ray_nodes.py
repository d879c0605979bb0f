"""Ray clusters of this machine for tests: nodes as processes, each of which can be killed, and nothing of which stays behind."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def ray_environment() -> dict[str, str]:
    """What nodes and driver have in common: a token that no other cluster knows, no reports to Ray's makers, and this source."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }


class Node:
    """One node with one CPU: the processes of a ``ray start``."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1", "--node-ip-address", "127.0.0.1"]
        command += ["--min-worker-port", "0", "--max-worker-port", "0", "--object-store-memory", "100000000", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self._parts: set[psutil.Process] = set()

    def kill(self) -> None:
        """SIGKILL to the process that is the node for Ray; its workers find out by themselves."""
        (raylet,) = (part for part in self._known() if part.name() == "raylet")
        raylet.kill()

    def remove(self) -> None:
        """End everything."""
        for part in self._known():
            with suppress(psutil.NoSuchProcess):
                part.kill()
        self._process.kill()
        self._process.wait()
        psutil.wait_procs(self._parts, timeout=20)

    def remember(self) -> None:
        """Which processes there are, before their parents go."""
        self._known()

    def has(self, process: int) -> bool:
        """Whether a process is one of the node's."""
        return process in {part.pid for part in self._known()}

    def _known(self) -> set[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            self._parts.update(psutil.Process(self._process.pid).children(recursive=True))
        return self._parts


class Cluster:
    """A head and a second node, each with room for one worker."""

    def __init__(self, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = f"127.0.0.1:{server.getsockname()[1]}"
        port = self.address.partition(":")[2]
        self._folder = folder
        self.head = Node("--head", "--port", port, "--temp-dir", folder, "--include-dashboard", "false")
        self.second: Node | None = None

    def add_second(self) -> Node:
        """Another node, which may join at any time."""
        self.second = Node("--address", self.address)
        return self.second

    def wait(self) -> None:
        """Until the head answers."""
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError("the head of the Ray cluster did not start")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster whose files go with it; the names of its sockets must be short."""
    folder = tempfile.mkdtemp(prefix="hf", dir="/tmp")
    made = Cluster(folder)
    try:
        made.wait()
        yield made
    finally:
        for node in filter(None, (made.second, made.head)):
            node.remove()
        shutil.rmtree(folder, ignore_errors=True)
