from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from holdfast.config.schema import FitConfig
from holdfast.data.source import Listing
from holdfast.data.splits import choose_test_split, largest_remainder, make_splits
from holdfast.errors import DataError


def listing(counts):
    """A listing with so many images of each class in each split: {"train": [3, 4]}, or {"": [3, 4]} without splits."""
    entries = sorted(
        (f"{split}/{label}/{number:04d}", label, split)
        for split, sizes in counts.items()
        for label, n in enumerate(sizes)
        for number in range(n)
    )
    classes = max(len(sizes) for sizes in counts.values())
    given = None if set(counts) == {""} else tuple(split for _, _, split in entries)
    return Listing(
        tuple(image for image, _, _ in entries),
        np.array([label for _, label, _ in entries]),
        tuple(f"c{k:03d}" for k in range(classes)),
        given,
    )


def per_class(images, rows):
    return np.bincount(images.labels[rows], minlength=len(images.classes)).tolist()


def sizes(splits):
    return {name: len(rows) for name, rows in splits.rows.items()}


def hamilton(counts, seats):
    """Largest remainder with fractions, seat by seat, never the last of a class."""
    total = sum(counts)
    quotas = [Fraction(count * seats, total) for count in counts]
    taken = [int(quota) for quota in quotas]
    for k in sorted(range(len(counts)), key=lambda k: (-(quotas[k] - int(quotas[k])), k)):
        if sum(taken) < seats and taken[k] + 1 < counts[k]:
            taken[k] += 1
    return taken


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


def test_without_given_splits_the_cut_is_70_15_15_class_by_class():
    images = listing({"": [100, 60, 40]})
    splits = make_splits(images, FitConfig())
    assert {name: per_class(images, rows) for name, rows in splits.rows.items()} == {
        "train": [70, 42, 28],
        "val": [15, 9, 6],
        "test": [15, 9, 6],
    }
    assert splits.val_from == "cut from all"
    assert "70/15/15" in splits.rule


def test_uneven_classes_are_cut_by_largest_remainder_twice():
    counts = [7, 11, 23, 3]  # 44 images, 6.6 -> 7 for test and for val
    images = listing({"": counts})
    splits = make_splits(images, FitConfig())
    test = hamilton(counts, 7)
    val = hamilton([n - taken for n, taken in zip(counts, test, strict=True)], 7)
    assert per_class(images, splits.rows["test"]) == test
    assert per_class(images, splits.rows["val"]) == val
    assert sizes(splits) == {"train": 30, "val": 7, "test": 7}


def test_splits_are_disjoint_and_complete():
    images = listing({"": [13, 29, 8]})
    rows = make_splits(images, FitConfig()).rows.values()
    assert sorted(np.concatenate(list(rows)).tolist()) == list(range(50))


def test_no_val_is_cut_where_its_fraction_is_0():
    assert sizes(make_splits(listing({"": [100, 100]}), FitConfig(val_fraction=0.0))) == {"train": 170, "test": 30}
    splits = make_splits(listing({"train": [10, 10], "test": [5, 5]}), FitConfig(val_fraction=0.0))
    assert (sizes(splits), splits.val_from) == ({"train": 20, "test": 10}, None)


def test_given_splits_are_used_as_they_are():
    images = listing({"train": [10, 10], "val": [3, 4], "test": [5, 6]})
    splits = make_splits(images, FitConfig(val_fraction=0.5))
    assert {name: [images.given[row] for row in rows] for name, rows in splits.rows.items()} == {
        "train": ["train"] * 20,
        "val": ["val"] * 7,
        "test": ["test"] * 11,
    }
    assert (splits.val_from, splits.rule) == ("given", "train, val, test given")


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_a_missing_val_is_cut_from_train(fraction):
    counts = [17, 41, 30, 22]
    images = listing({"train": counts, "test": [5, 5, 5, 5]})
    splits = make_splits(images, FitConfig(val_fraction=fraction))
    assert per_class(images, splits.rows["val"]) == hamilton(counts, int(fraction * 110 + 0.5))
    assert sizes(splits)["train"] + sizes(splits)["val"] == 110
    assert all(images.given[row] == "test" for row in splits.rows["test"])
    assert splits.val_from == "cut from train"


def test_a_missing_test_stays_missing():
    assert "test" not in make_splits(listing({"train": [10, 10], "val": [5, 5]}), FitConfig()).rows
    assert sizes(make_splits(listing({"train": [10, 10]}), FitConfig())) == {"train": 18, "val": 2}


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_cutting_never_empties_a_class_of_train(fraction):
    images = listing({"train": [1, 2, 3, 1, 50], "test": [1] * 5})
    assert min(per_class(images, make_splits(images, FitConfig(val_fraction=fraction)).rows["train"])) >= 1
    images = listing({"": [1, 2, 3, 1, 50]})
    assert min(per_class(images, make_splits(images, FitConfig()).rows["train"])) >= 1


@pytest.mark.parametrize(("fraction", "n"), [(0.1, 25), (0.1, 2464), (0.3, 7), (0.9, 10)])
def test_the_papers_cut_is_uniform_with_its_size_of_train(fraction, n):
    images = listing({"train": [n - n // 2, n // 2], "test": [1, 1]})
    splits = make_splits(images, FitConfig(split="paper", val_fraction=fraction))
    assert len(splits.rows["train"]) == int((1 - fraction) * n)
    assert len(splits.rows["train"]) + len(splits.rows["val"]) == n


def test_the_papers_cut_does_not_look_at_classes():
    images = listing({"train": [50, 50], "test": [1, 1]})
    seen = {per_class(images, make_splits(images, FitConfig(split="paper", data_seed=seed)).rows["val"])[0] for seed in range(30)}
    assert len(seen) > 3
    stratified = {per_class(images, make_splits(images, FitConfig(data_seed=seed)).rows["val"])[0] for seed in range(30)}
    assert stratified == {5}


def test_cuts_depend_on_the_seed_and_every_example_is_equally_likely():
    images = listing({"train": [10, 10], "test": [1, 1]})
    chosen = Counter(
        row for seed in range(1000) for row in make_splits(images, FitConfig(val_fraction=0.2, data_seed=seed)).rows["val"].tolist()
    )
    assert len(chosen) == 20
    # Each is drawn with probability 0.2: 200 of 1000, give or take 12.6.
    assert max(abs(count - 200) for count in chosen.values()) < 5 * 12.6


def test_a_cut_is_repeatable_and_other_classes_do_not_disturb_it():
    small, large = listing({"train": [20, 20], "test": [1, 1]}), listing({"train": [20, 20, 20], "test": [1, 1, 1]})
    first, again, larger = (make_splits(images, FitConfig(val_fraction=0.2)) for images in (small, small, large))
    assert np.array_equal(first.rows["val"], again.rows["val"])
    assert {small.ids[row] for row in first.rows["val"]} == {large.ids[row] for row in larger.rows["val"] if large.labels[row] < 2}


def test_dropped_images_leave_splits_as_if_they_had_never_been():
    images = listing({"": [20, 30]})
    gone = {images.ids[3], images.ids[40]}
    kept = [row for row, image in enumerate(images.ids) if image not in gone]
    without = Listing(tuple(images.ids[row] for row in kept), images.labels[kept], images.classes, None)
    ours, expected = make_splits(images, FitConfig(), dropped=gone), make_splits(without, FitConfig())
    for name, rows in expected.rows.items():
        assert [images.ids[row] for row in ours.rows[name]] == [without.ids[row] for row in rows]


def test_a_tiny_train_split_that_yields_no_val_says_so():
    splits = make_splits(listing({"train": [2, 2], "test": [1, 1]}), FitConfig(val_fraction=0.1))
    assert (sizes(splits), splits.val_from) == ({"train": 4, "test": 2}, None)
    assert "there is no val split" in splits.notes[0]


def test_a_train_list_restricts_given_train_before_val_is_cut():
    images = listing({"train": [20, 20], "test": [5, 5]})
    listed = np.array([given == "train" and int(image[-4:]) < 10 for image, given in zip(images.ids, images.given, strict=True)])
    splits = make_splits(images, FitConfig(val_fraction=0.1), listed=listed)
    assert sizes(splits) == {"train": 18, "val": 2, "test": 10}
    assert listed[splits.rows["train"]].all()
    assert listed[splits.rows["val"]].all()


def test_without_given_splits_every_train_list_has_the_same_val_and_test():
    images = listing({"": [50, 50]})
    whole = make_splits(images, FitConfig())
    listed = np.arange(100) % 2 == 0
    half = make_splits(images, FitConfig(), listed=listed)
    assert np.array_equal(half.rows["test"], whole.rows["test"])
    assert np.array_equal(half.rows["val"], whole.rows["val"])
    assert half.rows["train"].tolist() == [row for row in whole.rows["train"] if row % 2 == 0]
    held_out = sum(row % 2 == 0 for row in itertools.chain(whole.rows["val"], whole.rows["test"]))
    assert f"{held_out} images of --train-list are held out" in half.notes[0]


def test_shots_keep_so_many_of_each_class_after_cutting():
    images = listing({"train": [20, 30], "test": [5, 5]})
    whole, few = (make_splits(images, FitConfig(shots=shots)) for shots in (None, 4))
    assert per_class(images, few.rows["train"]) == [4, 4]
    assert np.array_equal(few.rows["val"], whole.rows["val"])
    assert set(few.rows["train"]) <= set(whole.rows["train"])


def test_fewer_shots_are_a_part_of_more_and_change_with_the_seed():
    images = listing({"": [40, 40]})
    chosen = {
        (shots, seed): set(make_splits(images, FitConfig(shots=shots, data_seed=seed)).rows["train"]) for shots in (3, 8) for seed in (0, 1)
    }
    assert chosen[3, 0] < chosen[8, 0]
    assert chosen[3, 0] != chosen[3, 1]


def test_classes_with_fewer_images_than_shots_are_kept_whole_and_named():
    images = listing({"train": [3, 10], "val": [1, 1], "test": [1, 1]})
    splits = make_splits(images, FitConfig(shots=5))
    assert per_class(images, splits.rows["train"]) == [3, 5]
    assert "--shots 5: 1 of 2 classes have fewer training images and keep all: 'c000'" in splits.notes[0]


def test_val_can_be_the_test_split_and_val_is_then_cut_from_train():
    images = choose_test_split(listing({"train": [10, 10], "val": [4, 5]}), "val", "data")
    splits = make_splits(images, FitConfig(val_fraction=0.1))
    assert sizes(splits) == {"train": 18, "val": 2, "test": 9}
    assert all(images.ids[row].startswith("val/") for row in splits.rows["test"])
    assert splits.val_from == "cut from train"


def test_a_test_split_besides_the_chosen_one_is_left_out():
    images = choose_test_split(listing({"train": [4, 4], "val": [2, 2], "test": [9, 9]}), "validation", "data")
    assert Counter(images.given) == {"train": 8, "test": 4}
    assert not any(image.startswith("test/") for image in images.ids)


def test_choosing_test_as_test_changes_nothing():
    images = listing({"train": [4, 4], "test": [2, 2]})
    chosen = choose_test_split(images, "test", "data")
    assert (chosen.ids, chosen.given) == (images.ids, images.given)


@pytest.mark.parametrize(
    ("name", "counts", "message"),
    [
        ("val", {"": [4, 4]}, "--test-split val: data has no split folders"),
        ("train", {"train": [4, 4]}, "--test-split train: the test split cannot be the one that is trained on"),
        (
            "holdout",
            {"train": [4, 4], "val": [1, 1]},
            "--test-split holdout: data has no such split folder with images; it has 'train', 'val'",
        ),
    ],
)
def test_test_splits_that_cannot_be_are_refused(name, counts, message):
    with pytest.raises(DataError, match=message):
        choose_test_split(listing(counts), name, "data")
