from __future__ import annotations

import numpy as np
import pytest
from tests.data.small_listings import hamilton, listing

from holdfast.data.cutting import Cutter, largest_remainder


def per_class(images, rows):
    return np.bincount(images.labels[rows], minlength=len(images.classes)).tolist()


def everything(images):
    return np.arange(len(images.ids))


@pytest.mark.parametrize(
    ("counts", "seats", "expected"),
    [
        ([10, 10, 10], 3, [1, 1, 1]),
        ([41, 41, 29, 17], 13, [4, 4, 3, 2]),  # quotas 4.16, 4.16, 2.95, 1.73
        ([5, 5, 5], 4, [2, 1, 1]),  # a tie goes to the first
        ([1, 9], 5, [0, 5]),  # 0.5 and 4.5, but the only one of a class stays
        ([2, 2, 2], 3, [1, 1, 1]),
        ([1, 1, 1], 2, [0, 0, 0]),
        ([0, 7], 3, [0, 3]),
        ([3, 100], 0, [0, 0]),
    ],
)
def test_largest_remainder_by_hand(counts, seats, expected):
    assert largest_remainder(np.array(counts), seats).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_largest_remainder_is_hamiltons_method_where_classes_can_spare_one(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 60, rng.integers(2, 30))
    seats = int(rng.uniform(0, 0.7) * counts.sum())
    assert largest_remainder(counts, seats).tolist() == hamilton(counts.tolist(), seats)


def test_seats_that_a_class_cannot_fill_go_to_others():
    counts = np.array([1, 1, 1, 20])
    assert largest_remainder(counts, 6).tolist() == [0, 0, 0, 6]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
def test_a_share_is_stratified_and_keeps_every_class(fraction):
    counts = [40, 23, 7, 1]
    images = listing({"": counts})
    rows = Cutter(images, "stratified", 0).share(everything(images), fraction)
    total = int(fraction * 71 + 0.5)
    assert per_class(images, rows) == [n - gone for n, gone in zip(counts, hamilton(counts, 71 - total), strict=True)]
    assert len(rows) == max(total, 4)
    assert min(per_class(images, rows)) >= 1


@pytest.mark.parametrize("how", ["stratified", "paper"])
@pytest.mark.parametrize("seed", range(5))
def test_smaller_shares_are_parts_of_larger_ones(how, seed):
    images = listing({"": np.random.default_rng(seed).integers(5, 60, 12).tolist()})
    cutter = Cutter(images, how, seed)
    tenth, quarter, half, whole = (set(cutter.share(everything(images), fraction)) for fraction in (0.1, 0.25, 0.5, 1.0))
    assert tenth < quarter < half < whole
    assert len(whole) == len(images.ids)


def test_the_papers_share_is_the_first_of_a_fixed_order_rounded_down():
    images = listing({"": [50, 49]})
    cutter = Cutter(images, "paper", 0)
    assert [len(cutter.share(everything(images), fraction)) for fraction in (0.1, 0.25, 0.995)] == [9, 24, 98]
    seen = {per_class(images, Cutter(images, "paper", seed).share(everything(images), 0.2))[0] for seed in range(20)}
    assert len(seen) > 3


@pytest.mark.parametrize("how", ["stratified", "paper"])
@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_folds_are_of_equal_size_and_hold_their_share_of_every_class(how, count):
    images = listing({"": [31, 17, 8, 1]})
    folds = Cutter(images, how, 0).folds(everything(images), count)
    sizes = np.bincount(folds, minlength=count)
    assert sizes.max() - sizes.min() <= 1
    if how == "stratified":
        for k in range(4):
            of_class = np.bincount(folds[images.labels == k], minlength=count)
            assert of_class.max() - of_class.min() <= 1


def test_folds_change_with_the_seed_and_every_example_is_equally_likely_in_each():
    images = listing({"": [10, 10]})
    chosen = sum((Cutter(images, "stratified", seed).folds(everything(images), 5) == 2).astype(int) for seed in range(1000))
    # Each with probability 0.2: 200 of 1000, give or take 12.6.
    assert np.abs(chosen - 200).max() < 5 * 12.6


def test_folds_of_the_same_examples_do_not_depend_on_the_order_of_rows():
    images = listing({"": [10, 13]})
    cutter = Cutter(images, "stratified", 3)
    rows = np.random.default_rng(0).permutation(23)
    assert np.array_equal(cutter.folds(everything(images), 4)[rows], cutter.folds(rows, 4))
