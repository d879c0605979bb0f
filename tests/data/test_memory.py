from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from holdfast.data import memory
from holdfast.data.fetch import InProcess, Workers


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with 1000 bytes left, and a folder to put the limits of a container into."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("cache", "expected"), [("auto", 250), ("memory", math.inf), ("off", 0)])
def test_budget_of_each_kind_of_cache(machine, cache, expected):
    assert memory.cache_budget(cache) == expected


def test_ranks_of_a_machine_share_memory_and_processors(machine, monkeypatch):
    alone = memory.cpu_count()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    assert memory.cache_budget("auto") == 50
    assert memory.cpu_count() == max(1, alone // 5)


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("600", "200", 400), ("5000", "200", 1000), ("max", "200", 1000), ("100", "200", 0)]
)
def test_the_limit_of_a_container_counts(machine, limit, used, expected):
    (machine / "memory.max").write_text(limit + "\n")
    (machine / "memory.current").write_text(used + "\n")
    assert memory.available_memory() == expected


def test_a_cache_that_outgrows_its_budget_is_given_up_as_a_whole():
    cache = memory.PixelCache(100)
    cache.keep("a", "view", np.zeros(60, dtype=np.uint8))
    assert cache.has("a", "view")
    assert not cache.has("a", "resized")
    cache.keep("b", "view", np.zeros(60, dtype=np.uint8))
    assert not cache.active
    assert not cache.has("a", "view")


def test_images_are_kept_where_they_fit_and_decoded_by_workers_where_not(load, folder, monkeypatch):
    root = folder({"a": 4, "b": 4})
    assert isinstance(load(root)._reader.fetcher, InProcess)
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * 3 * 16 * 16)
    assert isinstance(load(root, workers=1)._reader.fetcher, Workers)
    assert isinstance(load(root, workers=1, cache="memory")._reader.fetcher, InProcess)
