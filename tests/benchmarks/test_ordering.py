"""Which runs make up the table of the papers' ordering, and how it is filled."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from benchmarks.ordering import METHODS, Cell

from benchmarks import ordering
from holdfast.catalog import METHODS as RECORDS
from holdfast.config.layers import command_line
from holdfast.config.load import resolve


def finish(out: Path, cell: Cell, **accuracy: float) -> None:
    folder = out / cell.folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({split: {"accuracy": value} for split, value in accuracy.items()}))


def test_every_system_of_the_papers_but_the_one_without_source_data_is_in_the_table() -> None:
    feature = {"plain", "fnp", "randreg", "randreg-cp", "adarand"}
    others = {"l2-sp", "delta", "bss", "core-tuning", "dr-tune", "co-tuning", "bi-tuning", "stochnorm"}
    assert {row.method for row in METHODS.values()} == feature | others


@pytest.mark.parametrize("method", METHODS)
def test_every_cell_is_a_command_that_can_be_typed(method: str, tmp_path: Path) -> None:
    options = argparse.Namespace(data=tmp_path, weights=tmp_path / "weights", out=tmp_path / "runs")
    for tuning in (True, False):
        fit, data, *words = Cell("cars98a", method, 0.5, 1, tuning).words(options)
        assert (fit, data) == ("fit", str(tmp_path / "cars98a"))
        words.remove("--deterministic")
        typed = dict(zip(words[::2], words[1::2], strict=True))
        assert all(option.startswith("--") for option in typed)
        assert typed["--val-fraction"] == ("0.2" if tuning else "0")
        config = resolve(
            [command_line({"data": data, **{key.removeprefix("--").replace("-", "_"): value for key, value in typed.items()}})]
        )
        row = METHODS[method]
        (chosen,) = [entry for entry in config.methods if entry["name"] == row.method]
        assert chosen.items() >= row.options.items()
        if row.weight is not None:
            assert chosen[row.weight] == 0.5 * RECORDS[row.method].all_options[row.weight].default


def test_the_weight_is_the_one_that_was_best_on_validation(tmp_path: Path) -> None:
    for factor, found in zip(ordering.FACTORS, (0.7, 0.8, 0.8, 0.6), strict=True):
        finish(tmp_path, Cell("cars98a", "fnp", factor, ordering.TUNING_SEED, tuning=True), val=found)
    assert {(cell.method, cell.factor) for cell in ordering.tuned("cars98a", tmp_path)} == {("fnp", 1.0)}


def test_what_was_not_run_is_marked_so(tmp_path: Path) -> None:
    finish(tmp_path, Cell("hymenoptera", "plain", 1.0, 0), test=0.80)
    finish(tmp_path, Cell("hymenoptera", "plain", 1.0, 1), test=0.82)
    lines = ordering.table("hymenoptera", tmp_path)
    assert "| `plain` | 81.0 ± 1.4 (2) | – | – |" in lines
    assert "| `adarand` | not run | not run | – |" in lines
