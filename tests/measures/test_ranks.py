"""Two ranks with uneven shares of the data measure the same curvature as one process with all of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.processes import torchrun
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from holdfast.measures.hessian_distance import hessian_distance
from holdfast.measures.measurement import Budget
from holdfast.measures.noise_stability import noise_stability
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.spectrum import top_eigenvalues
from holdfast.measures.trace import hutchinson_trace
from holdfast.types import Comm

pytestmark = pytest.mark.ranks

SIZES = (4, 3, 5, 2)
"""Batches of all the data, in order; the first rank has the first three, the second the last."""

LAYERS = ("0.weight", "2.weight")

TwoRanks = list[tuple[dict[str, Any], dict[str, Any], int]]
"""What each rank measured with uneven shares, and with one batch each, and its products within a limit of seconds."""

DRIVER = """
import sys

import torch
import torch.distributed as dist

from holdfast.distributed import current_comm
from tests.measures.test_ranks import all_batches, measured, timed

dist.init_process_group("gloo")
comm = current_comm()
own = slice(0, 3) if comm.rank == 0 else slice(3, 4)
found = measured(all_batches()[own], comm)
one_each = measured([all_batches()[comm.rank]], comm)
torch.save((found, one_each, timed(all_batches()[own], comm)), f"{sys.argv[1]}/{comm.rank}.pt")
"""


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def all_batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    inputs = 3 * torch.randn(sum(SIZES), 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (sum(SIZES),), generator=generator)
    return list(zip(inputs.split(SIZES), labels.split(SIZES), strict=True))


def operator(batches: list[tuple[Tensor, Tensor]], comm: Comm | None) -> CurvatureOperator:
    return CurvatureOperator(network(), partial(cross_entropy, reduction="none"), batches, layers=LAYERS, comm=comm)


def measured(batches: list[tuple[Tensor, Tensor]], comm: Comm | None = None) -> dict[str, Any]:
    """Every measure that speaks with other ranks, as numbers by name."""
    matrix = operator(batches, comm)
    moves = {
        name: torch.randn(size, generator=torch.Generator().manual_seed(size)).double() for name, size in zip(LAYERS, (30, 18), strict=True)
    }
    found: dict[str, Any] = {}
    for stages, probes in ((1, "joint"), (1, "block"), (2, "joint")):
        trace = hutchinson_trace(matrix, rtol=0.3, stages=stages, probes=probes)
        layers = [(layer.value, layer.stderr) for layer in trace.layers.values()]
        found[f"trace, {stages} stage, {probes}"] = [trace.probes, trace.total.value, trace.total.stderr, *np.ravel(layers)]
    for over in ("mean", "sample", "batch"):
        distance = hessian_distance(matrix, moves, over=over, rtol=1e-9)
        found[f"distance, {over}"] = np.stack([distance.values, distance.plain])
        found[f"layers, {over}"] = [(layer.value, layer.argmax) for layer in distance.layers]
    released = hessian_distance(matrix, moves, over="batch", mode="full_row", psd=False)
    found["distance, released form"] = released.plain
    pairs = top_eigenvalues(matrix, 4, rtol=1e-9)
    found["eigenvalues"] = pairs.values
    found["eigenvectors"] = pairs.vectors.abs().numpy()
    (stability,) = noise_stability(matrix.net, matrix.loss, batches, [0.05], layers=LAYERS, draws=6, comm=comm)
    found["noise"] = torch.stack([stability.plus, stability.minus]).numpy()
    return found


def timed(batches: list[tuple[Tensor, Tensor]], comm: Comm | None) -> int:
    """Products within a limit of seconds, of which each rank has its own clock."""
    return hutchinson_trace(operator(batches, comm), rtol=1e-9, max_probes=10**6, budget=Budget(seconds=0.5)).total.products


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> TwoRanks:
    folder: Path = tmp_path_factory.mktemp("curvature")
    (folder / "driver.py").write_text(DRIVER)
    done = torchrun(folder / "driver.py", folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=1e-7, atol=1e-9, err_msg=name)


def test_two_ranks_are_one_process_with_all_batches(two_ranks: TwoRanks) -> None:
    alone = measured(all_batches())
    for found, _, _ in two_ranks:
        assert_same(found, alone)


def test_ranks_that_keep_the_graph_of_their_one_batch_are_one_process(two_ranks: TwoRanks) -> None:
    alone = measured(all_batches()[:2])
    for _, found, _ in two_ranks:
        assert_same(found, alone)


def test_limit_of_seconds_ends_both_ranks_at_the_same_product(two_ranks: TwoRanks) -> None:
    first, second = (products for _, _, products in two_ranks)
    assert first == second >= 2
