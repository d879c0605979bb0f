from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from tests.data.small_listings import hamilton, listing

from holdfast.config.schema import FitConfig
from holdfast.data.source import Listing
from holdfast.data.splits import choose_test_split, make_splits
from holdfast.errors import DataError


def per_class(images, rows):
    return np.bincount(images.labels[rows], minlength=len(images.classes)).tolist()


def sizes(splits):
    return {name: len(rows) for name, rows in splits.rows.items()}


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
        ("val", {"": [4, 4]}, "--test-split val: data has no splits"),
        ("train", {"train": [4, 4]}, "--test-split train: the test split cannot be the one that is trained on"),
        (
            "holdout",
            {"train": [4, 4], "val": [1, 1]},
            "--test-split holdout: data has no such split; it has 'train', 'val'",
        ),
    ],
)
def test_test_splits_that_cannot_be_are_refused(name, counts, message):
    with pytest.raises(DataError, match=message):
        choose_test_split(listing(counts), name, "data")


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_fraction_of_given_train_is_drawn_before_val_is_cut_from_it(fraction):
    images = listing({"train": [100, 60], "test": [5, 5]})
    splits = make_splits(images, FitConfig(train_fraction=fraction))
    size = round(fraction * 160)
    assert sizes(splits) == {"train": size - round(0.1 * size), "val": round(0.1 * size), "test": 10}
    assert splits.rule.endswith(f"; {fraction:g} of train drawn before any cut")


def test_the_papers_fraction_comes_first_and_is_rounded_down_twice():
    images = listing({"train": [1000, 1464], "test": [5, 5]})
    splits = make_splits(images, FitConfig(train_fraction=0.25, split="paper"))
    assert sizes(splits) == {"train": int(0.9 * 616), "val": 616 - int(0.9 * 616), "test": 10}


def test_without_given_splits_every_fraction_has_the_same_val_and_test():
    images = listing({"": [100, 100]})
    whole = make_splits(images, FitConfig())
    quarter, tenth = (make_splits(images, FitConfig(train_fraction=fraction)) for fraction in (0.25, 0.1))
    for name in ("val", "test"):
        assert np.array_equal(quarter.rows[name], whole.rows[name])
        assert np.array_equal(tenth.rows[name], whole.rows[name])
    assert set(tenth.rows["train"]) < set(quarter.rows["train"]) < set(whole.rows["train"])
    assert (sizes(quarter)["train"], sizes(tenth)["train"]) == (35, 14)
    assert quarter.rule.endswith("; 0.25 of train drawn after the cut")


@pytest.mark.parametrize("given", ["train", ""])
def test_list_fraction_and_shots_follow_each_other(given):
    images = listing({given: [40, 40], "test": [5, 5]} if given else {"": [60, 60]})
    listed = np.array([int(image[-4:]) < 20 for image in images.ids])
    if given:
        listed &= np.array(images.given) == "train"
    splits = make_splits(images, FitConfig(train_fraction=0.5, shots=3, val_fraction=0.2), listed=listed)
    without_shots = make_splits(images, FitConfig(train_fraction=0.5, val_fraction=0.2), listed=listed)
    without_fraction = make_splits(images, FitConfig(val_fraction=0.2), listed=listed)
    assert per_class(images, splits.rows["train"]) == [3, 3]
    assert set(splits.rows["train"]) < set(without_shots.rows["train"]) < set(np.flatnonzero(listed))
    used = [sum(len(part.rows[name]) for name in (("train", "val") if given else ("train",))) for part in (without_shots, without_fraction)]
    assert used[0] == int(used[1] / 2 + 0.5)


def test_a_fraction_of_1_changes_nothing():
    images = listing({"train": [11, 12], "test": [3, 3]})
    for how in ("stratified", "paper"):
        whole, same = (make_splits(images, FitConfig(split=how, train_fraction=fraction)) for fraction in (None, 1.0))
        assert all(np.array_equal(whole.rows[name], same.rows[name]) for name in ("train", "val", "test"))


@pytest.mark.parametrize("how", ["stratified", "paper"])
@pytest.mark.parametrize("fractions", [{}, {"val_fraction": 0.0}])
def test_folds_hold_out_every_example_once_as_val_where_test_is_given(how, fractions):
    images = listing({"train": [17, 9, 14], "test": [3, 3, 3]})
    splits = [make_splits(images, FitConfig(folds=4, fold=fold, split=how, **fractions)) for fold in range(4)]
    held_out = sorted(np.concatenate([part.rows["val"] for part in splits]).tolist())
    assert held_out == np.flatnonzero(np.array(images.given) == "train").tolist()
    for number, part in enumerate(splits):
        assert sizes(part) == {"train": 30, "val": 10, "test": 9}
        assert sorted([*part.rows["train"], *part.rows["val"], *part.rows["test"]]) == list(range(49))
        assert part.val_from == "cut from train"
        assert f"val is fold {number} of 4 (counted from 0) of train" in part.rule


def test_a_fold_of_train_is_val_where_there_is_no_test():
    splits = make_splits(listing({"train": [10, 10]}), FitConfig(folds=5, fold=1))
    assert sizes(splits) == {"train": 16, "val": 4}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25])
def test_folds_are_test_where_nothing_is_given_and_val_is_cut_from_the_rest(fraction):
    images = listing({"": [30, 20]})
    splits = [make_splits(images, FitConfig(folds=5, fold=fold, val_fraction=fraction)) for fold in range(5)]
    assert sorted(np.concatenate([part.rows["test"] for part in splits]).tolist()) == list(range(50))
    for part in splits:
        assert per_class(images, part.rows["test"]) == [6, 4]
        assert len(part.rows.get("val", ())) == int(fraction * 40 + 0.5)
        assert sorted(np.concatenate(list(part.rows.values())).tolist()) == list(range(50))


def test_folds_follow_list_and_fraction():
    images = listing({"train": [40, 40], "test": [5, 5]})
    listed = np.array([given == "train" and int(image[-4:]) < 20 for image, given in zip(images.ids, images.given, strict=True)])
    splits = [make_splits(images, FitConfig(folds=2, fold=fold, train_fraction=0.5), listed=listed) for fold in range(2)]
    held_out = set(np.concatenate([part.rows["val"] for part in splits]).tolist())
    assert held_out < set(np.flatnonzero(listed))
    assert [sizes(part) for part in splits] == [{"train": 10, "val": 10, "test": 10}] * 2


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"train": [9, 9], "val": [2, 2]}, {"folds": 3}, "--folds 3: birds has a val split, and the fold would be a second one; leave"),
        ({"train": [2, 2], "test": [2, 2]}, {"folds": 5}, "--folds 5: birds has only 4 images to cut them from; choose at most 4"),
        ({"": [9, 9]}, {"folds": 3, "group_by": "/[01]/"}, "--folds 3: birds has only 2 groups by --group-by /.01./ to cut them from"),
    ],
)
def test_folds_that_cannot_be_are_refused(counts, options, message):
    with pytest.raises(DataError, match=message):
        make_splits(listing(counts), FitConfig(data="birds", fold=0, **options))


def test_a_given_val_can_be_tested_on_and_train_folded():
    images = choose_test_split(listing({"train": [10, 10], "val": [4, 5]}), "val", "data")
    assert sizes(make_splits(images, FitConfig(folds=5, fold=0))) == {"train": 16, "val": 4, "test": 9}


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ({"": [40, 40]}, {}),
        ({"": [40, 40]}, {"split": "paper"}),
        ({"": [40, 40]}, {"folds": 4, "fold": 1, "val_fraction": 0.2}),
        ({"train": [40, 40], "test": [4, 4]}, {"folds": 4, "fold": 1}),
        ({"train": [40, 40], "test": [4, 4]}, {"val_fraction": 0.3, "train_fraction": 0.7}),
    ],
)
def test_groups_are_in_one_split_that_is_cut(counts, options):
    images = listing(counts)
    images = dataclasses.replace(images, columns={"site": tuple(f"{image[:-4]}{int(image[-4:]) % 10}" for image in images.ids)})
    splits = make_splits(images, FitConfig(group_by="site", **options))
    cut = [{images.columns["site"][row] for row in rows} for rows in splits.rows.values()]
    assert all(cut)
    assert not any(one & other for one, other in itertools.combinations(cut, 2))
    assert splits.notes == ()
    assert "whole groups" in splits.rule


def test_given_splits_that_share_groups_are_named_and_groups_without_name_counted():
    images = listing({"train": [20, 20], "test": [3, 3]})
    splits = make_splits(images, FitConfig(group_by="/0/(000.)$"))
    alone, shared = splits.notes
    assert alone == "--group-by /0/(000.)$: 33 of 46 examples name no group, so each of them is one by itself"
    assert shared.startswith(
        "--group-by /0/(000.)$: 3 groups are in more than one split, since the dataset's own divide them, such as '0000' in "
    )


def test_groups_too_large_to_hold_out_are_a_note():
    images = listing({"train": [10, 10], "test": [3, 3]})
    splits = make_splits(images, FitConfig(group_by="^train/[01]/|^test/./...."))
    assert sizes(splits) == {"train": 20, "test": 6}
    assert "no whole group can be held out without taking far too much or the last of a class, so there is no val split" in splits.notes[0]


def test_classes_too_small_for_test_and_val_are_a_note():
    splits = make_splits(listing({"": [1, 1, 1, 1]}), FitConfig())
    assert sizes(splits) == {"train": 4}
    assert [note.partition(",")[2] for note in splits.notes] == [" so there is no test split", " so there is no val split"]


def test_dropped_images_leave_folds_as_if_they_had_never_been():
    images = listing({"": [20, 30]})
    gone = {images.ids[3], images.ids[40]}
    without = images.take(np.array([row for row, image in enumerate(images.ids) if image not in gone]))
    for options in ({"folds": 3, "fold": 2}, {"folds": 3, "fold": 2, "group_by": "[0-9]$"}, {"group_by": "[0-9]$"}):
        ours, expected = make_splits(images, FitConfig(**options), dropped=gone), make_splits(without, FitConfig(**options))
        for name, rows in expected.rows.items():
            assert [images.ids[row] for row in ours.rows[name]] == [without.ids[row] for row in rows]


def test_choosing_a_test_split_keeps_weights_and_columns_with_their_images():
    images = listing({"train": [3, 3], "val": [2, 2], "test": [4, 4]})
    images = dataclasses.replace(images, weights=np.arange(18.0), columns={"me": images.ids})
    chosen = choose_test_split(images, "val", "data")
    assert chosen.columns["me"] == chosen.ids
    assert [images.ids[int(weight)] for weight in chosen.weights] == list(chosen.ids)
