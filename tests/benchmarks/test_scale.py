"""The benchmark of what grows, on sizes that take no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.benchmarks.test_curvature import small_problem

from benchmarks import curvature, scale
from holdfast.regularizers.class_directions import prior_objective


def test_rows_hold_every_table_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    words = f"scale --sizes 5x8 12x4 --batch-size 6 --repeats 2 --images 40 --json {file}"
    monkeypatch.setattr(sys, "argv", words.split())
    monkeypatch.setattr(curvature, "build", small_problem)
    monkeypatch.setattr(scale, "memory_in_fresh_process", scale.peak_mib)
    scale.main()
    found = json.loads(file.read_text())
    assert found["machine"]["threads"] == torch.get_num_threads()
    by_table = {
        table: [row for row in found["rows"] if row["table"] == table] for table in ("terms", "adarand", "setup", "images", "probes")
    }
    assert [(row["K"], row["D"], row["method"]) for row in by_table["terms"][:2]] == [(5, 8, "plain"), (5, 8, "fnp")]
    assert len(by_table["terms"]) == 2 * 6
    assert by_table["terms"][0]["added"] == 0
    assert [row["what"] for row in by_table["adarand"]] == ["update", "D x D", "K x K"] * 2
    assert all(0 <= row["min"] <= row["ms"] <= row["max"] for row in by_table["terms"] + by_table["adarand"] + by_table["setup"])
    numbers = {row["what"]: row["number"] for row in by_table["images"]}
    assert numbers["index on disk"] > 20
    assert numbers["index"] < numbers["headers"]
    (probe,) = by_table["probes"]
    assert probe["probe_in_gradients"] > 0
    assert "adarand:" in capsys.readouterr().out


def test_the_state_of_adarand_is_five_matrices_and_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "memory_in_fresh_process", scale.peak_mib)
    (update, *_) = scale.adarand_rows([(2000, 100)], 6, torch.device("cpu"), 2)
    assert update["state_mib"] == pytest.approx((5 * 4 * 2000 * 100 + 2000) / 2**20, abs=0.01)


@pytest.mark.parametrize(("classes", "width"), [(30, 7), (7, 30)])
def test_the_update_that_is_timed_moves_the_prior_as_training_does(classes: int, width: int) -> None:
    term = scale.started(classes, width, torch.device("cpu"))
    before = term.mean.clone()
    scale.update_of(term, 6)()
    gradient = prior_objective(before, term.running_mean, term.active).gradient
    assert (term.running_mean != before).any(dim=1).sum() == 6
    assert torch.equal(torch.sign(before - term.mean)[gradient.abs() > 1e-6], torch.sign(gradient)[gradient.abs() > 1e-6])
