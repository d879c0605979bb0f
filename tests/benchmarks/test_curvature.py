"""The benchmark of curvature, on a network small enough to measure in no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.curvature_tools import TOOLS, Problem, operator
from torch import nn

from benchmarks import curvature


def small_problem(*_: object) -> Problem:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10)).eval()
    return Problem(net, 2 * torch.randn(16, 6), torch.randint(10, (16,)))


def test_rows_hold_costs_products_and_errors_and_absent_tools_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", f"curvature --tools holdfast pyhessian --probes 12 --blocks 2 --no-memory --json {file}".split())
    monkeypatch.setattr(curvature, "build", small_problem)
    monkeypatch.setattr(curvature, "installed", {"holdfast": "0.1.0"}.get)
    curvature.main()
    assert "pyhessian is left out: it is not installed; pip install pyhessian adds it." in capsys.readouterr().out
    found = json.loads(file.read_text())
    trace, top = found["cost"]
    assert (trace["task"], trace["products"], top["task"], top["tool"]) == ("trace", 12, "top", "holdfast")
    for row, floor in ((trace, 12 * 2.5), (top, 16 * 2.5)):
        assert 0 < row["cost_min"] <= row["cost"] <= row["cost_max"]
        assert row["ratio_to_floor"] == pytest.approx(row["cost"] / floor, abs=1e-2)
        assert row["threads"] == torch.get_num_threads()
    (errors,) = found["accuracy"]
    assert errors["value_error"] < 1e-3
    assert errors["residual"] < 2e-3
    assert found["memory"] == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["holdfast", "pyhessian", "curvlinops"])
def test_every_tool_finds_the_eigenvalues_it_is_asked_for(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    problem = small_problem()
    values = torch.linalg.eigvalsh(operator(problem).dense())
    by_magnitude = name == "pyhessian"  # all that power iteration can do
    truth = values[values.abs().argsort(descending=True)][:3] if by_magnitude else values.flip(0)[:3]
    found = TOOLS[name].top(problem, 3, 1e-5)
    torch.testing.assert_close(found.values.to(truth), truth, rtol=2e-2, atol=0)
    torch.testing.assert_close(found.vectors.norm(dim=0).to(truth), torch.ones(3))
    assert found.products >= 5
    assert all(parameter.grad is None for parameter in problem.net.parameters())


def test_memory_beyond_the_limit_is_foreseen_from_the_last_two_rows() -> None:
    assert curvature._extrapolated([(2, 300.0)], 10**6) == 0
    assert curvature._extrapolated([(2, 300.0), (4, 500.0)], 10) == 1100
