"""Addresses of Ray clusters: a bad one is told of in words and at once."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time

import pytest

from holdfast.compare import ray_cluster
from holdfast.compare.ray_cluster import check_address
from holdfast.errors import ConfigError, DependencyError

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture(autouse=True)
def _as_if_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.fixture
def listening():
    """A function that answers the next caller with some bytes, and returns the port."""
    servers = []

    def listen(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            try:
                caller, _ = server.accept()
            except OSError:  # the test has ended without a call
                return
            with caller:
                if answer is None:
                    caller.recv(1000)
                    caller.recv(1000)  # until the caller has had enough
                else:
                    caller.sendall(answer)
                    caller.recv(1000)

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    yield listen
    for server in servers:
        server.close()


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("address", ["locale", "10.0.0.1", "http://10.0.0.1:6379", "10.0.0.1:port", ":6379", "a:b:1", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match=rf"--ray {address}: expected local, auto, HOST:PORT or ray://HOST:PORT"):
        check_address(address)


def test_an_address_is_named_as_it_was_given():
    with pytest.raises(ConfigError, match=r"compare\(ray=...\) locale: expected"):
        check_address("locale", spelled="compare(ray=...)")


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_a_port_where_nobody_listens_is_refused(form, closed_port):
    with pytest.raises(ConfigError, match=r"no Ray cluster answers there \(connection refused\)"):
        check_address(form.format(closed_port))


def test_a_host_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"--ray nohost\.invalid:6379: no Ray cluster answers there"):
        check_address("nohost.invalid:6379")


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_cannot_be_is_refused(port):
    with pytest.raises(ConfigError, match="no Ray cluster answers there"):
        check_address(f"127.0.0.1:{port}")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_something_else_that_listens_is_refused(answer, listening):
    with pytest.raises(ConfigError, match="something else listens at this port"):
        check_address(f"127.0.0.1:{listening(answer)}")


def test_one_that_takes_the_call_and_stays_silent_is_refused_in_time(listening, monkeypatch):
    monkeypatch.setattr(ray_cluster, "SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"no answer in 0.3 seconds"):
        check_address(f"127.0.0.1:{listening(None)}")
    assert time.monotonic() - began < 5


def test_one_that_answers_as_ray_does_is_taken(listening):
    check_address(f"127.0.0.1:{listening(SETTINGS)}")
    check_address(f"ray://127.0.0.1:{listening(SETTINGS)}")


def test_behind_certificates_only_the_port_is_tried(listening, monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    check_address(f"127.0.0.1:{listening(None)}")


def test_auto_means_what_the_environment_says(closed_port, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    with pytest.raises(ConfigError, match=rf"--ray auto \(127.0.0.1:{closed_port}\): no Ray cluster answers"):
        check_address("auto")


def test_auto_means_the_last_cluster_of_this_machine_which_may_be_gone(closed_port, tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text(f"127.0.0.1:{closed_port}\n")
    with pytest.raises(ConfigError, match=rf"--ray auto \(127.0.0.1:{closed_port}\): no Ray cluster answers"):
        check_address("auto")


def test_auto_without_a_hint_is_left_to_ray():
    check_address("auto")


def test_a_missing_ray_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"--ray local: the package ray is not installed; type pip install 'holdfast\[ray\]'"):
        check_address("local")
