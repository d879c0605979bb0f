"""One budget for all parts: shares, what is left over, and the clock."""

from __future__ import annotations

import pytest
import torch

from holdfast.auditing import sharing
from holdfast.auditing.sharing import WEIGHTS, Purse
from holdfast.distributed import SingleProcess

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(sharing.time, "perf_counter", lambda: now[0])
    return now


def test_without_a_limit_every_part_may_take_what_it_needs():
    purse = Purse(None, None, SingleProcess(), CPU)
    assert not purse.limited
    assert all((purse.share(part).products, purse.share(part).seconds) == (None, None) for part in list(WEIGHTS)[:1])


def test_products_are_shared_by_weight_and_never_exceed_the_budget():
    purse, total = Purse(None, 1000, SingleProcess(), CPU), 0
    for part in WEIGHTS:
        share = purse.share(part).products
        total += share
        purse.spend(share)
    assert total == 1000


def test_what_a_part_leaves_over_goes_to_those_after_it():
    purse = Purse(None, 1000, SingleProcess(), CPU)
    first = purse.share("trace").products
    purse.spend(0)
    rest = 1 - WEIGHTS["trace"] / sum(WEIGHTS.values())
    assert first == int(1000 * (1 - rest))
    assert purse.share("hessian distance").products == int(1000 * WEIGHTS["hessian distance"] / (100 * rest))


def test_seconds_run_from_the_start_but_half_is_kept_for_measuring(clock):
    early, late = Purse(100.0, None, SingleProcess(), CPU), Purse(100.0, None, SingleProcess(), CPU)
    clock[0] = 20.0
    assert early.share("trace").seconds == pytest.approx(80 * WEIGHTS["trace"] / 100)
    clock[0] = 500.0
    assert late.share("trace").seconds == pytest.approx(50 * WEIGHTS["trace"] / 100)
    clock[0] = 540.0
    assert late.share("distance form").seconds == pytest.approx(10 * WEIGHTS["distance form"] / (100 - WEIGHTS["trace"]))


def test_a_spent_budget_is_almost_nothing_and_no_error(clock):
    purse = Purse(10.0, None, SingleProcess(), CPU)
    purse.share("trace")
    clock[0] = 1000.0
    assert purse.share("spectrum").seconds == pytest.approx(1e-3)
