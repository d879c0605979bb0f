"""How the validation of the measures is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.validation import MEASURES, VARIANTS, Cell, Measure, bounds, cells, correlation, read, table

from holdfast.config.layers import keywords
from holdfast.config.load import resolve


def audit(gap: float, distance: float, *, bound: float = 3.0, vacuous: bool = False) -> dict[str, Any]:
    estimate = {"value": distance, "stderr": None, "met": True}
    return {
        "totals": {
            "l2": distance,
            "trace": None,
            "lambda_max": estimate,
            "hessian_distance_psd": estimate,
            "spectral_product": distance,
        },
        "bound": {"measure": 2.0, "distance_measure": 1.0, "bound": bound, "vacuous": vacuous},
        "gap": {"gap": gap, "test_loss": 1.0 + gap},
    }


MOVED = Measure("distance", lambda found: found["totals"]["l2"])


def test_every_variant_is_a_run_that_can_be_made() -> None:
    assert len({cell.folder for cell in cells()}) == len(list(cells()))
    for variant in VARIANTS:
        config = resolve([keywords({**Cell(variant, 5, 1).options, "out": "somewhere"})])
        assert (config.seed, config.data_seed, config.shots) == (1, 1, 5)


def test_correlations_are_those_of_the_ranks() -> None:
    found = correlation([audit(0.1, 1.0), audit(0.2, 10.0), audit(0.3, 5.0)], MOVED)
    assert found == pytest.approx((1 / 3, 0.5, 3))  # two of three pairs agree


def test_a_measure_that_was_not_measured_is_left_out() -> None:
    trace = next(measure for measure in MEASURES if measure.name.startswith("trace"))
    assert correlation([audit(0.1, 1.0)], trace).n == 0


def test_bounds_are_counted() -> None:
    rows = [audit(0.5, 1.0, bound=1.6), audit(0.5, 1.0, bound=1.4), audit(0.5, 1.0, vacuous=True)]
    assert bounds(rows) == "the bound held in 2 of 3 runs, and was vacuous (at least C) in 1; measure / gap: median 4.0, 4.0 to 4.0"


def test_the_table_tells_numbers_of_images_apart(tmp_path: Path) -> None:
    for seed in range(3):
        for shots, sign in ((5, 1), (20, -1)):
            file = tmp_path / Cell("plain", shots, seed).folder / "audit.json"
            file.parent.mkdir()
            file.write_text(json.dumps(audit(0.1 * seed, sign * seed + 5.0)))
    lines = table(read(tmp_path))
    assert lines[0] == "| measure | τ, ρ (all runs, 6) | τ, ρ (5 a class, 3) | τ, ρ (20 a class, 3) |"
    row = next(line for line in lines if line.startswith("| distance from"))
    assert row.endswith("| +1.00, +1.00 | -1.00, -1.00 |")
    assert "| trace of the Hessian | not measured | not measured | not measured |" in lines
