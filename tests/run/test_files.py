"""Atomic replacement and plain values."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from holdfast.run.files import atomic_write, disk_is_full, plain, remove_leftovers, sha256_json, to_json


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(content)


def killed_while_writing(path: Path) -> None:
    """Another process gets half through a file and is killed there."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from holdfast.run.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr


def test_atomic_write_replaces_the_whole_content(tmp_path):
    write(tmp_path / "a.txt", b"a long first version")
    write(tmp_path / "a.txt", b"second")
    assert (tmp_path / "a.txt").read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_write_keeps_the_old_content_when_the_block_raises(tmp_path):
    write(tmp_path / "a.txt", b"old")

    def interrupted():
        with atomic_write(tmp_path / "a.txt") as stream:
            stream.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_atomic_write_keeps_the_old_content_when_the_system_fails(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    write(tmp_path / "a.txt", b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_content_is_on_disk_before_the_name_points_at_it(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda source, target: (calls.append("replace"), replace(source, target)))
    write(tmp_path / "a.txt", b"new")
    assert calls == ["fsync", "replace"]


def test_a_killed_process_leaves_the_old_content_and_its_leftover_is_removed(tmp_path):
    write(tmp_path / "a.txt", b"old")
    killed_while_writing(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_leftovers_in_subfolders_are_removed(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    killed_while_writing(tmp_path / "checkpoint" / "state.pt")
    remove_leftovers(tmp_path)
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_the_temporary_file_of_a_running_process_stays(tmp_path):
    with atomic_write(tmp_path / "a.txt") as stream:
        stream.write(b"new")
        remove_leftovers(tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_the_temporary_file_of_another_machine_goes_after_a_day(tmp_path):
    fresh, old = tmp_path / ".tmp~elsewhere~1~a.txt", tmp_path / ".tmp~elsewhere~1~b.txt"
    for path in (fresh, old):
        path.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_seen_through_the_error_it_grew_into(code):
    error = RuntimeError("the writer failed")
    error.__context__ = OSError(code, os.strerror(code))
    assert disk_is_full(error)


def test_other_errors_are_no_full_disk():
    assert not disk_is_full(OSError(errno.EACCES, "Permission denied"))
    assert not disk_is_full(ValueError("No space left"))


def test_plain_turns_what_is_not_finite_into_null():
    assert plain([float("nan"), float("inf"), -float("inf"), 1.5]) == [None, None, None, 1.5]
    assert plain(np.float32("nan")) is None


def test_plain_keeps_types_that_json_knows():
    value = {"flag": True, "count": 3, "text": "λ", "nothing": None, "nested": {"list": [1, 2.5]}}
    assert plain(value) == value
    assert plain({"flag": True})["flag"] is True


def test_plain_converts_arrays_scalars_tuples_and_paths():
    converted = plain({1: np.int64(4), "row": np.array([1.5, np.nan]), "pair": (1, 2), "path": Path("a/b")})
    assert converted == {"1": 4, "row": [1.5, None], "pair": [1, 2], "path": str(Path("a/b"))}
    assert type(converted["1"]) is int


def test_json_is_readable_unicode():
    assert to_json({"class": "Größe"}) == '{\n "class": "Größe"\n}\n'


def test_hash_ignores_order_and_sees_every_value():
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": 1, "b": [1, 2]}) != sha256_json({"a": 1, "b": [2, 1]})


def test_hash_is_that_of_the_canonical_text():
    # printf '{"a":[1,0.1],"b":"λ"}' | sha256sum
    assert sha256_json({"b": "λ", "a": (1, 0.1)}) == "2bb63174c0559b782ea84e4253075c175134c120f73aab8f0d64e7a667c169ed"
