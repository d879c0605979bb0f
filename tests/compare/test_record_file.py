"""``comparison.json`` keeps what it is given, and damage is one sentence."""

from __future__ import annotations

import json

import pytest
from tests.compare.rows import row, rows
from tests.compare.test_summary import settings_of

from holdfast.compare.record import Failure
from holdfast.compare.record_file import read_comparison, to_text
from holdfast.compare.summary import compare_rows
from holdfast.errors import RunError

FAILURE = Failure("bss", "photos", "net", 0.5, 1, 0, "k=1", True, "runs/x", "it burned: «ü»")


@pytest.fixture
def comparison():
    """Two settings with a search, pairs with and without an interval, data seeds, and a failure."""
    tuning = [row("bss", 0.9, 9, trial="k=1", tuning=True)]
    more = [
        row(name, 0.5 + 0.01 * seed * data_seed, seed, data_seed) for name in ("plain", "bss") for data_seed in (1, 2) for seed in (0, 1)
    ]
    return compare_rows(tuning + settings_of([0.02, 0.03]) + more, failures=[FAILURE], notes=["Mind the gap."])


def store(folder, change=None, **keys):
    """Write a comparison's record after a change."""
    values = json.loads(to_text(compare_rows(rows({"plain": [0.5, 0.6], "bss": [0.7, 0.9]}))))
    values.update(keys)
    if change is not None:
        change(values)
    (folder / "comparison.json").write_text(json.dumps(values))


def test_what_is_written_is_read(comparison, tmp_path):
    (tmp_path / "comparison.json").write_text(to_text(comparison), encoding="utf-8")
    assert read_comparison(tmp_path) == comparison


def test_the_record_has_the_documented_keys(comparison):
    values = json.loads(to_text(comparison))
    assert values["schema"] == 1
    assert {"runs", "methods", "pairs", "settings", "overall", "failures"} <= values.keys()
    assert {"method", "seed", "data_seed", "run", "metrics", "cost", "data", "model", "fraction", "trial", "tuning"} == values["runs"][
        0
    ].keys()
    assert {"setting", "name", "n", "mean", "std", "ci95", "rank"} <= values["methods"][0].keys()
    assert {"setting", "a", "b", "difference", "ci95", "p_holm", "wins", "ties", "losses", "verdict"} <= values["pairs"][0].keys()


def test_the_same_runs_give_the_same_text(comparison):
    assert to_text(comparison) == to_text(comparison)


def test_a_directory_without_a_record_says_what_to_give(tmp_path):
    with pytest.raises(RunError, match=r"has no comparison\.json: give a directory that holdfast compare wrote"):
        read_comparison(tmp_path)


@pytest.mark.parametrize("schema", [2, "1", None])
def test_another_schema_is_named(tmp_path, schema):
    store(tmp_path, schema=schema)
    with pytest.raises(RunError, match=rf"has schema {schema!r}, expected 1: read it with the holdfast that wrote it"):
        read_comparison(tmp_path)


@pytest.mark.parametrize("text", ["", '{"schema": 1, "runs": [', "[1]", "\x00"])
def test_a_file_that_is_no_record_is_damaged(tmp_path, text):
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(RunError, match=r"comparison\.json' is damaged: .*; repeat the holdfast compare command"):
        read_comparison(tmp_path)


def test_bytes_that_are_no_text_are_damaged(tmp_path):
    (tmp_path / "comparison.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(RunError, match=r"is damaged"):
        read_comparison(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.pop("pairs"), "the key 'pairs' is missing"),
        (lambda values: values["runs"][1].pop("seed"), r"the key 'runs\[1\]\.seed' is missing"),
        (lambda values: values["pairs"][0].update(p_holm="low"), r"pairs\[0\]\.p_holm is 'low', expected a number"),
        (lambda values: values["pairs"][0].update(p_holm=True), r"pairs\[0\]\.p_holm is True, expected a number"),
        (lambda values: values["pairs"][0].update(ci95=[0.1]), r"pairs\[0\]\.ci95 has 1 entries, expected 2"),
        (lambda values: values["pairs"][0].update(ci95=0.1), r"pairs\[0\]\.ci95 is 0\.1, expected a list"),
        (lambda values: values["pairs"][0].update(verdict="best"), r"verdict is 'best', expected one of 'better', 'worse', 'no difference"),
        (lambda values: values["pairs"][0].update(verdict=[]), r"verdict is \[\], expected one of"),
        (lambda values: values["methods"][0].update(selections=[]), r"methods\[0\]\.selections is \[\], expected keys with values"),
        (lambda values: values["methods"][0].update(setting=1), r"methods\[0\]\.setting is 1, and there are 1 settings"),
        (
            lambda values: values["runs"][0]["metrics"]["test"].update(n=1.5),
            r"runs\[0\]\.metrics\.test\.n is 1\.5, expected a whole number",
        ),
        (lambda values: values["runs"][0].update(metrics=None), r"runs\[0\]\.metrics is None, expected keys with values"),
    ],
)
def test_what_is_damaged_is_named_by_its_place(tmp_path, change, words):
    store(tmp_path, change)
    with pytest.raises(RunError, match=words):
        read_comparison(tmp_path)


def test_further_keys_are_welcome(tmp_path):
    store(tmp_path, lambda values: values["pairs"][0].update(mood="good"), more=1)
    assert read_comparison(tmp_path).pairs[0].a == "bss"
