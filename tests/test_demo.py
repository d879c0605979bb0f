from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from holdfast import demo
from holdfast.catalog import method_record
from holdfast.config.schema import RELEVANT_FIELDS, FitConfig
from holdfast.demo import Interval, Pair


def printed(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_is_that_of_the_paired_t_test(level):
    plain, adarand = [0.91, 0.88, 0.93, 0.90, 0.87], [0.92, 0.90, 0.92, 0.93, 0.88]
    expected = stats.ttest_rel(adarand, plain).confidence_interval(level)
    interval = demo.paired_interval([b - a for a, b in zip(plain, adarand, strict=True)], level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.mean == pytest.approx(0.012)


def test_equal_differences_leave_no_room_in_the_interval():
    assert demo.paired_interval([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0.02, 0.01, 0.03), "better"),
        (Interval(-0.02, -0.03, -0.01), "worse"),
        (Interval(0.02, -0.01, 0.05), "no difference shown"),
        (Interval(0.0, 0.0, 0.0), "no difference shown"),
        (Interval(0.01, 0.0, 0.02), "no difference shown"),
    ],
)
def test_verdict_needs_an_interval_without_zero(interval, verdict):
    assert demo.verdict(interval) == verdict
    assert verdict in demo.conclusion(interval, 5).lower()


def test_conclusion_speaks_in_points():
    text = demo.conclusion(Interval(-0.0123, -0.02, -0.005), 5)
    assert text.startswith("AdaRand minus plain: -1.2 points, 95 % interval -2.0 to -0.5 (paired t, 5 seeds). AdaRand is worse")


def test_table_has_a_row_for_each_seed_and_their_mean():
    lines = printed(demo.result_table([Pair(3, 0.90, 0.92), Pair(4, 0.80, 0.79)])).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["3", "90.0", "%", "92.0", "%", "+2.0"],
        ["4", "80.0", "%", "79.0", "%", "-1.0"],
        ["mean", "85.0", "%", "85.5", "%", "+0.5"],
    ]


def test_a_second_demo_leaves_the_first_alone(tmp_path):
    for expected in ("demo", "demo-2", "demo-3"):
        folder = demo.free_folder(tmp_path)
        assert folder == tmp_path / expected
        folder.mkdir()


def test_methods_differ_in_nothing_but_the_method(monkeypatch):
    calls: list[dict[str, Any]] = []

    def record(data: str, **options: Any) -> SimpleNamespace:
        calls.append(options)
        return SimpleNamespace(result={"test": {"accuracy": 0.9 + 0.01 * (len(calls) % 2)}})

    monkeypatch.setattr("holdfast.api.fit", record)
    pairs = demo.run_pairs(Path("runs"), Console(file=io.StringIO()))
    assert [pair.seed for pair in pairs] == list(demo.SEEDS)
    assert all(pair.difference == pytest.approx(-0.01) for pair in pairs)
    for plain, adarand in zip(calls[::2], calls[1::2], strict=True):
        assert {key for key in plain if plain[key] != adarand[key]} == {"method", "out"}
        assert plain["seed"] == plain["data_seed"]
    assert len({call["out"] for call in calls}) == len(calls)


def test_options_exist():
    fields = set(FitConfig.__dataclass_fields__)
    assert set(demo.OPTIONS) <= fields
    assert {"shots", "epochs", "lr"} <= set(RELEVANT_FIELDS)
    for (entry,) in demo.METHODS.values():
        assert {key for key in entry if key != "name"} <= set(method_record(entry["name"]).all_options)


def test_next_command_is_the_program_of_this_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert demo.next_command().startswith(".venv/bin/holdfast fit YOUR_FOLDER --model ")
    monkeypatch.setattr("sys.executable", "/opt/my env/bin/python")
    assert demo.next_command().startswith("'/opt/my env/bin/holdfast' fit ")
