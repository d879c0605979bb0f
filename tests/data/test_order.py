from __future__ import annotations

import numpy as np
import pytest

from holdfast.data import order
from holdfast.data.keyed import example_keys
from holdfast.errors import ConfigError

ROWS = np.arange(100, 203)
KEYS = example_keys(str(row) for row in ROWS)


def parts(**options):
    defaults = {"seed": 0, "epoch": 0, "batch_size": 24, "accumulate": 1, "rank": 0, "size": 1, "start_step": 0}
    return list(order.train_rows(ROWS, KEYS, **{**defaults, **options}))


def test_an_epoch_shows_each_example_at_most_once_and_drops_the_incomplete_batch():
    shown = np.concatenate(parts())
    assert len(parts()) == 103 // 24
    assert len(np.unique(shown)) == len(shown) == 96
    assert set(shown) <= set(ROWS)


def test_a_batch_of_all_is_kept_where_there_are_fewer_examples():
    (only,) = parts(batch_size=500)
    assert sorted(only) == ROWS.tolist()
    assert (order.effective_batch_size(103, 500), order.steps_per_epoch(103, 500)) == (103, 1)


@pytest.mark.parametrize(
    ("examples", "batch_size", "steps"), [(128, 64, 2), (127, 64, 1), (64, 64, 1), (63, 64, 1), (1, 64, 1), (130, 1, 130)]
)
def test_steps_of_an_epoch(examples, batch_size, steps):
    assert order.steps_per_epoch(examples, batch_size) == steps


def test_the_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(parts(seed=3, epoch=2), parts(seed=3, epoch=2))
    assert not np.array_equal(parts(seed=3, epoch=2), parts(seed=3, epoch=1))
    assert not np.array_equal(parts(seed=3, epoch=2), parts(seed=2, epoch=2))


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 3), (4, 2)])
def test_ranks_and_micro_batches_join_to_the_batches_of_one_process(size, accumulate):
    whole = parts()
    by_rank = [parts(rank=rank, size=size, accumulate=accumulate) for rank in range(size)]
    for step, batch in enumerate(whole):
        joined = [by_rank[rank][step * accumulate + micro] for rank in range(size) for micro in range(accumulate)]
        assert np.array_equal(np.concatenate(joined), batch)
        assert {len(part) for part in joined} == {24 // (size * accumulate)}


def test_starting_late_leaves_out_whole_steps():
    assert np.array_equal(parts(accumulate=2, start_step=3), parts(accumulate=2)[6:])
    assert parts(start_step=4) == []


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"--batch-size 24: a batch of 24 cannot be divided among 2 rank\(s\) x 5 micro-batch\(es\); choose a multiple of 10",
    ):
        parts(size=2, accumulate=5)
    with pytest.raises(ConfigError, match=r"--batch-size 200, and there are only 103 training images: a batch of 103"):
        parts(batch_size=200, size=2)


@pytest.mark.parametrize(("examples", "size"), [(10, 3), (2, 4), (0, 2), (9, 1)])
def test_shards_are_contiguous_and_hold_each_example_once(examples, size):
    rows = np.arange(examples)
    shards = [order.shard(rows, rank, size) for rank in range(size)]
    assert np.array_equal(np.concatenate(shards), rows)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_batches_of_a_shard():
    assert [part.tolist() for part in order.batches_of(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert order.batches_of(np.arange(0), 2) == []
