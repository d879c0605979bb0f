"""The benchmarks' arithmetic, on a network small enough to time in no time."""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Callable

import pytest
import torch
from benchmarks.floors import EXTRA_WORK, WHOLE_STEPS
from benchmarks.settings import Setting
from benchmarks.timing import interleave

from benchmarks import overhead

TINY = Setting("M", "demo:glyphnet", 32, 4, 7)


class Clock:
    """A counter in place of the wall clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_interleave_gives_the_ratio_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("benchmarks.timing.time", clock)

    def takes(duration: float) -> object:
        def call() -> None:
            clock.now += duration

        return call

    ratio = interleave(takes(2.0), takes(3.0), torch.device("cpu"), steps=3, blocks=4)
    assert ratio.ratio == ratio.low == ratio.high == pytest.approx(1.5)
    assert ratio.base_seconds == pytest.approx(2.0)


def test_every_method_of_the_catalog_has_a_row_and_a_budget() -> None:
    from holdfast.catalog import METHODS, parse_methods

    measured = {str(entry["name"]) for method in overhead.METHODS.values() for entry in parse_methods(method)}
    assert measured == set(METHODS)
    for method in overhead.METHODS:
        for name in ("S", "M", "M2048", "G", "V"):
            assert 1 <= overhead.budget(method, Setting(name, "demo:glyphnet", 32, 4, 7), floor=1.2) <= 1.4


def test_what_only_some_steps_do_counts_in_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("benchmarks.timing.time", clock)
    durations = itertools.cycle([1.0, 1.0, 1.0, 5.0])

    def base() -> None:
        clock.now += 1.0

    def other() -> None:
        clock.now += next(durations)

    cpu = torch.device("cpu")
    assert interleave(base, other, cpu, steps=4, blocks=2, warmup=0).ratio == pytest.approx(1.0)
    assert interleave(base, other, cpu, steps=4, blocks=2, warmup=0, typical=statistics.mean).ratio == pytest.approx(2.0)


def operations(work: Callable[[], object]) -> int:
    """How many operations of tensors a call makes."""
    with torch.profiler.profile() as profile:
        work()
    return sum(event.name.startswith("aten::") for event in profile.events())


@pytest.mark.parametrize("method", sorted(EXTRA_WORK | WHOLE_STEPS))
def test_every_floor_can_be_timed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setting, "build", _small)
    work = (EXTRA_WORK | WHOLE_STEPS)[method](TINY, torch.device("cpu"))
    work()  # what is made once, such as the buffers of an optimizer
    calls = [operations(work) for _ in range(2)]
    assert calls[0] == calls[1] > 0, "a floor does the same work in each step"


def test_rows_have_the_published_keys(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(overhead.SETTINGS, "M", TINY)
    monkeypatch.setattr(Setting, "build", _small)
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", f"overhead --settings M --methods adarand --steps 1 --blocks 1 --no-memory --json {file}".split())
    overhead.main()
    (row,) = json.loads(file.read_text())
    assert set(row) == {"method", "ratio", "ratio_min", "ratio_max", "floor", "budget", "memory_ratio", "settings"}
    assert row["method"] == "adarand"
    assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]


def _small(setting: Setting, device: torch.device) -> torch.nn.Module:
    from holdfast.models.glyphnet import glyphnet

    return glyphnet(setting.num_classes).to(device)
