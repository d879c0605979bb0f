"""Trace estimates against known traces and the variance formulas of random probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import t
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.errors import ConfigError
from holdfast.measures.measurement import Budget, Meter
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.probes import draw_probe, draw_probes
from holdfast.measures.sketched_trace import hutch_plus_plus, xtrace, xtrace_values
from holdfast.measures.trace import hutchinson_trace, probe_values


def symmetric(size: int = 30, seed: int = 0) -> Tensor:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (matrix + matrix.T) / 2 + torch.eye(size, dtype=torch.float64)


def few_outliers(size: int = 60) -> Tensor:
    """A matrix whose first four eigenvalues carry nearly all of it."""
    torch.manual_seed(3)
    basis = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    values = torch.full((size,), 0.01, dtype=torch.float64)
    values[:4] = torch.tensor([40.0, 30.0, 20.0, 10.0])
    return (basis * values) @ basis.T


def operator(batches: int = 1, **options: Any) -> CurvatureOperator:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs = 2 * torch.randn(12, 4, dtype=torch.float64)
    parts = [tensor.chunk(batches) for tensor in (inputs, torch.randint(3, (12,)))]
    losses = partial(cross_entropy, reduction="none")
    return CurvatureOperator(net, losses, list(zip(*parts, strict=True)), layers=["0.weight", "2.weight"], **options)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_probes_scatter_as_much_as_the_formula_says(distribution: str) -> None:
    matrix, count = symmetric(), 4000
    samples = probe_values(matrix, draw_probes(matrix, 0, count, distribution=distribution))
    diagonal = matrix.diagonal().square().sum() if distribution == "rademacher" else 0
    variance = float(2 * (matrix.square().sum() - diagonal))
    assert abs(float(samples.mean() - matrix.trace())) < 4 * math.sqrt(variance / count)
    assert float(samples.var()) == pytest.approx(variance, rel=0.1)


def test_probes_depend_on_seed_and_number_alone() -> None:
    matrix = torch.eye(50)
    assert torch.equal(draw_probes(matrix, 3, 2, first=4)[:, 1], draw_probe(matrix, 3, 5))
    assert not torch.equal(draw_probe(matrix, 3, 5), draw_probe(matrix, 4, 5))
    assert set(draw_probe(matrix, 0, 0).tolist()) == {-1.0, 1.0}


def test_rule_stops_at_the_first_count_whose_interval_is_narrow_enough() -> None:
    matrix = symmetric()
    found = hutchinson_trace(matrix, rtol=0.3, min_probes=5, seed=2)
    samples = probe_values(matrix, draw_probes(matrix, 2, found.probes)).numpy()
    assert found.total.met
    assert found.total.value == pytest.approx(samples.mean())
    assert found.total.stderr == pytest.approx(samples.std(ddof=1) / math.sqrt(found.probes))
    assert found.total.products == found.probes > 5

    def narrow(count: int) -> bool:
        part = samples[:count]
        return t.ppf(0.975, count - 1) * part.std(ddof=1) / math.sqrt(count) <= 0.3 * abs(part.mean())

    assert narrow(found.probes)
    assert not any(narrow(count) for count in range(5, found.probes))


def test_layers_share_probes_or_have_their_own() -> None:
    whole = operator()
    dense = whole.dense()
    truth = {block.name: float(dense[block.start : block.stop, block.start : block.stop].trace()) for block in whole.blocks}
    for probes in ("joint", "block"):
        found = hutchinson_trace(whole, rtol=0.15, max_probes=4000, probes=probes)
        for name, layer in found.layers.items():
            assert layer.met
            assert abs(layer.value - truth[name]) < 4 * layer.stderr
        assert found.total.value == pytest.approx(sum(layer.value for layer in found.layers.values()))
    lagging = hutchinson_trace(whole, rtol=0.02, max_probes=40, probes="auto")
    joint = hutchinson_trace(whole, rtol=0.02, max_probes=40)
    assert not joint.total.met
    assert all(lagging.layers[name].stderr < joint.layers[name].stderr for name in truth)


def test_several_batches_give_the_same_estimate_as_one() -> None:
    one, three = (hutchinson_trace(operator(batches), rtol=0.3) for batches in (1, 3))
    assert one.probes == three.probes
    assert three.total.value == pytest.approx(one.total.value)


def convolutions(**options: Any) -> CurvatureOperator:
    torch.manual_seed(5)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)]
    net = nn.Sequential(*layers).double()
    net(torch.randn(32, 1, 6, 6, dtype=torch.float64))  # running statistics of its own
    batch = torch.randn(8, 1, 6, 6, dtype=torch.float64), torch.randint(3, (8,))
    return CurvatureOperator(net, partial(cross_entropy, reduction="none"), [batch], layers=["0.weight", "5.weight"], **options)


@pytest.mark.slow
@pytest.mark.parametrize("network", [operator, convolutions])
def test_fixed_second_stage_covers_what_it_says(network: Callable[..., CurvatureOperator]) -> None:
    whole, runs = network(chunk_size=30, check=False), 400
    dense = whole.dense()
    truth = [float(dense.trace()), *(float(dense[block.start : block.stop, block.start : block.stop].trace()) for block in whole.blocks)]
    hits, counts = np.zeros(len(truth)), set()
    with whole.keeping():
        for seed in range(runs):
            found = hutchinson_trace(whole, rtol=1.0, min_probes=30, max_probes=100, stages=2, seed=seed)
            values, errors = zip(*((one.value, one.stderr) for one in (found.total, *found.layers.values())), strict=True)
            hits += np.abs(np.subtract(values, truth)) <= t.ppf(0.975, found.probes - 1) * np.array(errors)
            counts.add(found.probes)
    assert min(counts) >= 30
    assert len(counts) > 10  # each run has its own fixed number
    np.testing.assert_allclose(hits / runs, 0.95, rtol=0, atol=3 * math.sqrt(0.95 * 0.05 / runs))


def most_kept(call: Callable[[], object]) -> int:
    """Most numbers that the graphs of autograd kept at one time while a call ran."""
    kept = most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal kept, most
            self.tensor = tensor.detach()  # the tensor itself would hold the graph that holds it
            kept += tensor.numel()
            most = max(most, kept)

        def __del__(self) -> None:
            nonlocal kept
            kept -= self.tensor.numel()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda saved: saved.tensor):
        call()
    return most


@pytest.mark.parametrize("batches", [1, 3])
def test_memory_is_the_same_for_any_number_of_probes(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, columns, plain = operator(batches), [], CurvatureOperator.full_row_quads

    def noted(self: CurvatureOperator, vectors: Tensor) -> Tensor:
        columns.append(vectors.shape[1])
        return plain(self, vectors)

    monkeypatch.setattr(CurvatureOperator, "full_row_quads", noted)
    few, many = (most_kept(partial(hutchinson_trace, whole, rtol=1e-9, max_probes=count)) for count in (10, 100))
    assert few == many > 0
    assert sum(columns) == 110
    assert max(columns) == (1 if batches == 1 else 8)
    passes = 110 if batches == 1 else 13 + 2
    assert len(columns) == passes


def test_pilot_makes_no_product_that_is_not_used() -> None:
    found = hutchinson_trace(operator(3), rtol=0.5, stages=2)
    assert found.total.products == 30 + found.probes


def test_unmet_and_late_estimates_say_so() -> None:
    matrix = symmetric()
    needed = hutchinson_trace(matrix, rtol=0.2).probes
    assert not hutchinson_trace(matrix, rtol=0.2).late
    assert hutchinson_trace(matrix, rtol=0.2, max_probes=needed).late
    short = hutchinson_trace(matrix, rtol=0.2, max_probes=needed - 1)
    assert (short.total.met, short.late, short.probes) == (False, False, needed - 1)


def test_budgets_are_kept() -> None:
    matrix = symmetric()
    limited = hutchinson_trace(matrix, rtol=0.001, budget=Budget(products=17))
    assert (limited.total.products, limited.total.met) == (17, False)
    assert hutchinson_trace(operator(3), rtol=0.001, budget=Budget(products=11)).total.products == 11
    assert hutch_plus_plus(matrix, 30, budget=Budget(products=10)).products == 9
    assert xtrace(matrix, 30, budget=Budget(products=9)).products == 8
    with pytest.raises(ConfigError, match="does not allow two probes"):
        hutchinson_trace(matrix, budget=Budget(products=1))
    with pytest.raises(ConfigError, match="products must be positive, got 0"):
        Budget(products=0)


def test_seconds_are_judged_by_the_products_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    meter = Meter(Budget(seconds=10), torch.eye(2))
    assert meter.allows()
    meter.add(4)
    now[0] = 8.0
    assert meter.allows()
    assert not meter.allows(2)


def test_sketches_find_outliers_that_single_probes_scatter_over() -> None:
    matrix = few_outliers()
    truth = float(matrix.trace())
    errors = {"hutch++": [], "xtrace": [], "hutchinson": []}
    for seed in range(20):
        errors["hutch++"].append(hutch_plus_plus(matrix, 30, seed=seed).value - truth)
        errors["xtrace"].append(xtrace(matrix, 30, seed=seed).value - truth)
        errors["hutchinson"].append(float(probe_values(matrix, draw_probes(matrix, seed, 30)).mean()) - truth)
    spread = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in errors.items()}
    assert spread["hutch++"] < spread["hutchinson"] / 50
    assert spread["xtrace"] < spread["hutchinson"] / 50


def test_xtrace_is_its_leave_one_out_definition() -> None:
    matrix = symmetric()
    tests = draw_probes(matrix, 1, 6)
    for i, found in enumerate(xtrace_values(matrix, tests)):
        others = torch.cat([tests[:, :i], tests[:, i + 1 :]], dim=1)
        basis = torch.linalg.qr(matrix @ others).Q
        rest = tests[:, i] - basis @ (basis.T @ tests[:, i])
        torch.testing.assert_close(found, (basis.T @ matrix @ basis).trace() + rest @ matrix @ rest)
    assert xtrace(matrix, 12, seed=1).stderr == pytest.approx(float(xtrace_values(matrix, tests).std()) / math.sqrt(6))


def test_matrices_of_small_rank_are_exact() -> None:
    vector = torch.arange(1.0, 21.0, dtype=torch.float64)
    matrix = torch.outer(vector, vector)
    assert xtrace(matrix, 8).value == pytest.approx(float(vector @ vector))
    assert hutch_plus_plus(matrix, 9).value == pytest.approx(float(vector @ vector))
    assert xtrace(torch.zeros(20, 20), 8).value == 0


def test_more_probes_than_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="11 test vectors for 10 weights are twice as many products as weights"):
        xtrace(torch.eye(10), 22)
    with pytest.raises(ConfigError, match="11 test vectors for 10 weights are three times"):
        hutch_plus_plus(torch.eye(10), 33)
    with pytest.raises(ConfigError, match="4 is the least"):
        xtrace(torch.eye(10), 3)
    with pytest.raises(ConfigError, match="rtol must be positive"):
        hutchinson_trace(torch.eye(10), rtol=0)
