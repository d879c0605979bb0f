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
    options = {**defaults, **options}
    shown = order.uniform_order(ROWS, KEYS, seed=options.pop("seed"), epoch=options.pop("epoch"))
    return [part.rows for part in order.train_parts(shown, **options)]


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
    with pytest.raises(ConfigError, match=r"--batch-size 200, and there are only 103 training examples: a batch of 103"):
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


COUNTS = [3, 40, 60]
"""Three classes of these sizes; the middle third of a row number says nothing about its class."""


def balanced(epoch=0, *, seed=0, counts=COUNTS, length=None):
    """Rows and repeats of a balanced epoch, and the class of each row."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = np.arange(500, 500 + len(labels))
    keys = example_keys(str(row) for row in rows)
    shown = order.balanced_order(rows, keys, labels, seed=seed, epoch=epoch, length=length or len(rows) // 24 * 24)
    return shown, labels[shown.rows - 500]


@pytest.mark.parametrize("epoch", range(4))
@pytest.mark.parametrize("counts", [COUNTS, [1, 100], [30, 0, 73], [50, 53]])
def test_a_balanced_epoch_shows_every_class_and_every_example_of_a_class_equally_often(epoch, counts):
    shown, labels = balanced(epoch, counts=counts)
    assert len(shown.rows) == sum(counts) // 24 * 24
    per_class = np.bincount(labels, minlength=len(counts))[np.array(counts) > 0]
    assert per_class.max() - per_class.min() <= 1
    for k, count in enumerate(counts):
        times = np.bincount(shown.rows[labels == k] - 500, minlength=sum(counts))
        times = np.sort(times)[len(times) - count :]
        assert not count or times.max() - times.min() <= 1


def test_balanced_epochs_together_show_classes_and_examples_equally_often():
    epochs = [balanced(epoch) for epoch in range(7)]
    rows, labels = (np.concatenate([epoch[part] for epoch in ((shown.rows, labels) for shown, labels in epochs)]) for part in (0, 1))
    per_class = np.bincount(labels)
    assert per_class.max() - per_class.min() <= 1
    for k in range(3):
        _, times = np.unique(rows[labels == k], return_counts=True)
        assert (len(times), times.max() - times.min() <= 1) == (COUNTS[k], True)


def test_repeats_count_how_often_an_example_was_shown_before_in_the_epoch():
    for epoch in range(3):
        shown, _ = balanced(epoch, length=100)  # which three classes do not divide
        for row in np.unique(shown.rows):
            assert sorted(shown.repeats[shown.rows == row]) == list(range(int((shown.rows == row).sum())))
    assert not order.uniform_order(ROWS, KEYS, seed=0, epoch=0).repeats.any()


def test_the_balanced_order_is_shuffled_and_a_function_of_seed_and_epoch():
    first, labels = balanced(2, seed=3)
    again, _ = balanced(2, seed=3)
    assert np.array_equal(first.rows, again.rows)
    assert np.array_equal(first.repeats, again.repeats)
    assert not np.array_equal(first.rows, balanced(1, seed=3)[0].rows)
    assert not np.array_equal(first.rows, balanced(2, seed=4)[0].rows)
    assert len(set(np.diff(labels).tolist())) > 3  # not in turn


def test_the_balanced_order_of_classes_that_are_equal_shows_each_example_once():
    shown, _ = balanced(counts=[24, 24], length=48)
    assert sorted(shown.rows) == list(range(500, 548))
    assert not shown.repeats.any()


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (2, 3)])
def test_ranks_and_micro_batches_slice_a_balanced_epoch(size, accumulate):
    shown, _ = balanced(1)
    options = {"batch_size": 24, "accumulate": accumulate, "size": size, "start_step": 1}
    by_rank = [list(order.train_parts(shown, rank=rank, **options)) for rank in range(size)]
    for part in ("rows", "repeats"):
        joined = [
            getattr(shared, part) for step in range(3) for rank in by_rank for shared in rank[step * accumulate : (step + 1) * accumulate]
        ]
        assert np.array_equal(np.concatenate(joined), getattr(shown, part)[24:96])


def windowed(epoch=0, *, seed=0, window=50, monkeypatch):
    """Places (shard, offset) of 40 shards of 30 to 69 examples, rows in any order, and the order in which an epoch shows them."""
    monkeypatch.setattr(order, "WINDOW", window)
    monkeypatch.setattr(order, "_SHARDS_AT_ONCE", 0)
    generator = np.random.default_rng(0)
    shards = np.repeat(np.arange(40), np.arange(30, 70))
    places = generator.permutation(np.stack([shards * 3, np.arange(len(shards)) * 512], axis=1))
    rows = np.arange(500, 500 + len(places))
    keys = example_keys(str(row) for row in rows)
    return places, order.windowed_order(rows, keys, places, seed=seed, epoch=epoch)


def test_a_windowed_epoch_shows_each_example_once_as_a_function_of_seed_and_epoch(monkeypatch):
    places, shown = windowed(monkeypatch=monkeypatch)
    assert sorted(shown.rows) == list(range(500, 500 + len(places)))
    assert not shown.repeats.any()
    assert np.array_equal(windowed(monkeypatch=monkeypatch)[1].rows, shown.rows)
    assert not np.array_equal(windowed(1, monkeypatch=monkeypatch)[1].rows, shown.rows)
    assert not np.array_equal(windowed(seed=1, monkeypatch=monkeypatch)[1].rows, shown.rows)


def test_reads_of_a_moment_stay_within_a_window_of_consecutive_shards(monkeypatch):
    places, shown = windowed(window=50, monkeypatch=monkeypatch)
    stored = places[shown.rows - 500]
    first = dict.fromkeys(windowed(window=0, monkeypatch=monkeypatch)[0][windowed(window=0, monkeypatch=monkeypatch)[1].rows - 500][:, 0])
    turn = {shard: number for number, shard in enumerate(first)}  # the order of the shards without moves
    turns = np.array([turn[shard] for shard in stored[:, 0].tolist()])
    for start in range(0, len(turns) - 20, 20):
        assert np.ptp(turns[start : start + 20]) <= 3  # a window of 50 and shards of 30 and more
    assert len(set(np.diff(turns).tolist())) > 2  # and it is no plain reading from the first shard to the last


def test_without_a_window_each_shard_is_read_from_its_beginning_to_its_end(monkeypatch):
    places, shown = windowed(window=0, monkeypatch=monkeypatch)
    stored = places[shown.rows - 500]
    steps = np.diff(stored[:, 0]) != 0
    assert steps.sum() == 39
    assert (np.diff(stored[:, 1])[~steps] > 0).all()
    assert (np.diff(stored[:, 0]) < 0).any()  # the shards themselves are shuffled


def test_a_window_covers_some_shards_however_large_they_are(monkeypatch):
    monkeypatch.setattr(order, "WINDOW", 1)
    places = np.stack([np.repeat(np.arange(4), 300), np.tile(np.arange(300), 4)], axis=1)
    rows = np.arange(1200)
    shown = order.windowed_order(rows, example_keys(map(str, rows)), places, seed=0, epoch=0)
    assert all(len(set(places[shown.rows[start : start + 60], 0])) > 1 for start in range(120, 1080, 60))  # edges aside
