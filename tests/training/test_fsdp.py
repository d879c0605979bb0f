"""FSDP by two ranks: what DDP does, with each rank holding its part of the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.rank_runs import CASES, LIKE_DDP, WHOLE_WEIGHTS, TwoRanks
from tests.training.small_runs import assert_same_run, history
from torch import Tensor

from holdfast.attach import build_terms
from holdfast.catalog import METHODS, parse_methods
from holdfast.run import Run
from holdfast.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ranks

SUPPORTED = [name for name in {**CASES, **LIKE_DDP} if name not in WHOLE_WEIGHTS]


def checkpoint(run: Run) -> dict[str, Any]:
    state = load_checkpoint(run)
    assert state is not None
    return state


@pytest.mark.parametrize("case", SUPPORTED)
def test_fsdp_is_ddp_up_to_the_order_of_sums(case: str, two_ranks: TwoRanks) -> None:
    ddp, fsdp = Run.open(two_ranks.runs / case), Run.open(two_ranks.runs / "fsdp" / case)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if case != "bf16" else {"rtol": 1e-2, "atol": 1e-3}
    torch.testing.assert_close(fsdp.load_weights(), ddp.load_weights(), **tolerance)
    ours, theirs = checkpoint(fsdp), checkpoint(ddp)
    for part in ("terms", "candidates"):
        torch.testing.assert_close(tensors(ours[part]), tensors(theirs[part]), **tolerance)
    for mine, other in zip(history(fsdp), history(ddp), strict=True):
        assert mine == pytest.approx(other, rel=10 * tolerance["rtol"], abs=tolerance["atol"])
    for mine, other in zip(fsdp.features or (), ddp.features or (), strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert (fsdp.test.n, fsdp.test.loss) == pytest.approx((ddp.test.n, ddp.test.loss), rel=10 * tolerance["rtol"])


@pytest.mark.parametrize("case", SUPPORTED)
def test_each_rank_holds_its_part_and_the_checkpoint_the_whole(case: str, two_ranks: TwoRanks) -> None:
    sizes = [seen["sizes"][f"fsdp/{case}"] for seen in two_ranks.seen]
    whole = sizes[0]["parameters"]
    assert sum(size["own parameters"] for size in sizes) == whole
    assert all(0.3 * whole < size["own parameters"] < 0.7 * whole for size in sizes)
    optimizer = [size["own optimizer"] for size in sizes]
    assert max(optimizer) < 0.7 * two_ranks.seen[0]["sizes"][case]["own optimizer"] + 2000  # what terms train stays whole
    ours, theirs = (checkpoint(Run.open(two_ranks.runs / where / case)) for where in ("fsdp", "."))
    for part in ("model", "optimizer"):
        shapes, others = ({name: value.shape for name, value in tensors(state[part]).items()} for state in (ours, theirs))
        assert shapes == others


def test_a_reference_that_training_uses_is_spread_too(two_ranks: TwoRanks) -> None:
    for case in ("l2-sp", "dr-tune"):
        whole = two_ranks.seen[0]["sizes"][case]["own reference"]
        assert sum(seen["sizes"][f"fsdp/{case}"]["own reference"] for seen in two_ranks.seen) == whole


@pytest.mark.parametrize("case", sorted(WHOLE_WEIGHTS))
def test_a_method_that_needs_whole_weights_is_refused_and_nothing_written(case: str, two_ranks: TwoRanks) -> None:
    for seen in two_ranks.seen:
        assert seen["errors"][f"fsdp/{case}"].startswith("--strategy fsdp: method 'distance" if case != "bi-tuning" else "--strategy fsdp:")
        assert "needs whole weights" in seen["errors"][f"fsdp/{case}"]
    assert not (two_ranks.runs / "fsdp" / case).exists()


def test_every_method_that_says_so_was_tried() -> None:
    tried = {entry["name"] for case in SUPPORTED for entry in parse_methods(methods_of(case))}
    declared = {name for name in METHODS if build_terms(parse_methods(name)[-1:])[0].term.SHARDED}
    assert declared <= tried
    assert set(METHODS) - declared == {"bi-tuning"}
    assert not any(weighted.term.SHARDED for case in WHOLE_WEIGHTS for weighted in build_terms(parse_methods(methods_of(case))[-1:]))


@pytest.mark.parametrize(("name", "other"), [("fsdp/stopped inside", "fsdp/adarand"), ("fsdp/killed", "fsdp/undisturbed")])
def test_a_run_of_fsdp_goes_on_exactly(name: str, other: str, two_ranks: TwoRanks) -> None:
    assert_same_run(Run.open(two_ranks.runs / name), Run.open(two_ranks.runs / other))


@pytest.mark.parametrize("name", ["goes on with ddp", "goes on with fsdp"])
def test_a_run_goes_on_by_the_other_strategy(name: str, two_ranks: TwoRanks) -> None:
    run, other = (Run.open(two_ranks.runs / "fsdp" / found) for found in (name, "undisturbed"))
    # AdamW makes much of small differences, such as those of kernels for another order of axes; its steps are of 1e-3.
    torch.testing.assert_close(run.load_weights(), other.load_weights(), rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(tensors(checkpoint(run)["candidates"]), tensors(checkpoint(other)["candidates"]), rtol=1e-3, atol=2e-4)


def test_weights_that_overflow_stop_both_ranks_of_fsdp(two_ranks: TwoRanks) -> None:
    for seen in two_ranks.seen:
        assert "not finite" in seen["errors"]["fsdp/overflow"]


def test_the_robust_recipe_is_that_of_ddp(two_ranks: TwoRanks) -> None:
    ddp, fsdp = Run.open(two_ranks.runs / "robust"), Run.open(two_ranks.runs / "fsdp/robust")
    torch.testing.assert_close(fsdp.load_weights(), ddp.load_weights(), rtol=1e-4, atol=1e-5)


def test_a_plan_counts_what_one_rank_holds(two_ranks: TwoRanks) -> None:
    plans = two_ranks.seen[0]["plan"]
    for part in ("gradients", "optimizer"):
        assert 0.3 < plans["fsdp"][part] / plans["ddp"][part] < 0.7


def test_ranks_with_fewer_batches_go_along(two_ranks: TwoRanks) -> None:
    first, second = (seen["comm"] for seen in two_ranks.seen)
    assert first["fewer"] == [("a", True), ("b", True)]
    assert second["fewer"] == [("a", True), ("a", False)]
    assert first["none"] == [("c", False), ("c", False)]
    assert second["none"] == [("c", True), ("d", True)]


def methods_of(case: str) -> Any:
    method = {**CASES, **LIKE_DDP}[case]["method"]
    return [method] if isinstance(method, dict) else method


def tensors(tree: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors in nested dicts and lists, by where they are."""
    if isinstance(tree, Tensor):
        return {name: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return {path: tensor for key, value in items for path, tensor in tensors(value, f"{name}/{key}").items()}
