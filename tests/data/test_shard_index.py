"""Indexes of shards, kept and found again."""

from __future__ import annotations

import json
import os

import fsspec
import pytest
from tests.data.small_shards import write_shard

from holdfast.data import shard_index as module
from holdfast.data.shard_index import cache_folder, shard_index
from holdfast.errors import DataError


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    return write_shard(tmp_path / "d/s.tar", {"0": "a", "1": "b"})


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes over headers."""
    seen = []
    real = module.index_tar
    monkeypatch.setattr(module, "index_tar", lambda file: seen.append(1) or real(file))
    return seen


def test_headers_are_read_once_and_the_index_lies_beside_the_shard(shard, passes):
    first = shard_index(str(shard))
    assert shard_index(str(shard)) == first
    assert len(passes) == 1
    assert sorted(path.name for path in shard.parent.iterdir()) == ["s.tar", "s.tar.index.json"]
    assert not cache_folder().exists()


def test_a_shard_that_changed_is_indexed_anew(shard, passes):
    shard_index(str(shard))
    size = shard.stat().st_size
    write_shard(shard, {"0": "a", "1": "c"})
    assert shard.stat().st_size == size
    os.utime(shard, ns=(1, 1))  # a clock may be too coarse to tell the two
    assert shard_index(str(shard)).labels == ("a", "c")
    assert len(passes) == 2


def test_where_nothing_can_be_written_beside_it_the_index_goes_to_the_cache(shard, passes, monkeypatch):
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: real(a, b) if "cache" in str(b) else (_ for _ in ()).throw(PermissionError(13, "no")))
    first = shard_index(str(shard))
    assert [path.name for path in shard.parent.iterdir()] == ["s.tar"]
    assert shard_index(str(shard)) == first
    assert len(passes) == 1


def test_an_index_that_can_be_kept_nowhere_is_made_each_time(shard, passes, monkeypatch, caplog):
    caplog.set_level("INFO", logger="holdfast")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert shard_index(str(shard)) == shard_index(str(shard))
    assert len(passes) == 2
    assert "its index cannot be kept, so it is made anew each time" in caplog.text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "no json",
        lambda record: "[]",
        lambda record: json.dumps({**record, "schema": 2}),
        lambda record: json.dumps({**record, "labels": record["labels"][:1]}),
        lambda record: json.dumps({**record, "offsets": ["x", "y"]}),
        lambda record: json.dumps({**record, "unit": "sound"}),
        lambda record: json.dumps({key: cell for key, cell in record.items() if key != "keys"}),
        lambda record: json.dumps({**record, "keys": None}),
    ],
)
def test_a_damaged_index_is_made_anew(shard, passes, spoil):
    first = shard_index(str(shard))
    beside = shard.with_name("s.tar.index.json")
    record = json.loads(beside.read_text())
    beside.write_text(spoil(record))
    assert shard_index(str(shard)) == first
    assert len(passes) == 2
    assert json.loads(beside.read_text()) == record


def test_a_damaged_shard_leaves_no_index(shard):
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DataError):
        shard_index(str(shard))
    assert [path.name for path in shard.parent.iterdir()] == ["s.tar"]


def test_of_a_url_the_index_is_in_the_cache(shard, passes, tmp_path):
    fsspec.filesystem("memory").pipe("/shards/s.tar", shard.read_bytes())
    first = shard_index("memory://shards/s.tar")
    assert first == shard_index("memory://shards/s.tar") == shard_index(str(shard))
    assert len(passes) == 2
    assert len(list((tmp_path / "cache/shards").iterdir())) == 1
    assert fsspec.filesystem("memory").ls("/shards", detail=False) == ["/shards/s.tar"]


def test_the_cache_is_where_the_user_says_or_among_the_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("HOLDFAST_CACHE", "/x")
    assert str(cache_folder()) == "/x"
    monkeypatch.delenv("HOLDFAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert str(cache_folder()) == "/y/holdfast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/holdfast"
