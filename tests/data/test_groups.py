from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from tests.data.small_listings import listing

from holdfast.data.cutting import Cutter
from holdfast.data.groups import example_groups, spread_groups
from holdfast.data.source import Listing
from holdfast.errors import DataError


def grouped(seed, groups, classes=3, mixed=True):
    """A listing whose ids begin with a group of 1 to 12 images, of one class or of several."""
    rng = np.random.default_rng(seed)
    entries = []
    for group in range(groups):
        own = int(rng.integers(classes))
        for number in range(int(rng.integers(1, 13))):
            entries.append((f"p{group:03d}_{number:02d}.png", int(rng.integers(classes)) if mixed and rng.random() < 0.3 else own))
    ids, labels = zip(*sorted(entries), strict=True)
    return Listing(ids, np.array(labels), tuple(f"c{k}" for k in range(classes)), None)


def cutter(images, seed=0, how="stratified"):
    return Cutter(images, how, seed, example_groups(images, "^(p[0-9]+)_", "data").of)


def groups_in(images, rows):
    return {images.ids[row].split("_")[0] for row in rows}


def imbalance(labels, folds, count):
    """Sum over folds and classes of the squared distance from an even share, relative to it."""
    table = np.array([np.bincount(labels[folds == fold], minlength=labels.max() + 1) for fold in range(count)])
    expected = table.sum(axis=0) / count
    return float(((table - expected) ** 2 / expected).sum())


def names(images, group_by):
    return [group.removeprefix("\0") for group in example_groups(images, group_by, "data").of]


def test_a_group_is_the_first_bracket_or_the_whole_match_found_anywhere_in_the_id():
    images = Listing(("a/p1_x.png", "a/p2_x.png", "b/p1_y.png"), np.array([0, 0, 1]), ("a", "b"), None)
    assert names(images, "(p[0-9])_.") == names(images, "p[0-9]") == names(images, "(?:a|b)/(p[0-9])(_x)?") == ["p1", "p2", "p1"]


def test_a_column_of_that_name_wins_over_the_regular_expression():
    images = Listing(("x1", "x2"), np.array([0, 1]), ("a", "b"), None, columns={"x": ("u", "u")})
    assert names(images, "x") == ["u", "u"]
    assert names(images, "x.") == ["x1", "x2"]


def test_what_names_no_group_is_one_by_itself():
    images = Listing(("p1_a", "p1_b", "q", "r"), np.array([0, 1, 0, 1]), ("a", "b"), None, columns={"who": ("", "", "z", "")})
    found = example_groups(images, "^p[0-9]", "data")
    assert (len(set(found.of)), found.alone) == (3, 2)
    assert example_groups(images, "who", "data").alone == 3
    optional = example_groups(images, "^(p1)?", "data")  # the bracket takes no part in the match
    assert (len(set(optional.of)), optional.alone) == (3, 2)


def test_an_example_by_itself_is_in_no_group_that_happens_to_be_called_like_it():
    images = Listing(("a", "b"), np.array([0, 1]), ("x", "y"), None, columns={"who": ("b", "")})
    assert len(set(example_groups(images, "who", "data").of)) == 2


@pytest.mark.parametrize(
    ("group_by", "columns", "message"),
    [
        ("(p", {}, r"\(p: data has no such column, and this is no regular expression \(missing \), .*; type one that finds"),
        ("patient", {"site": ("s",) * 4}, "--group-by patient: data has no such column; it has 'site', and as a regular expression"),
        ("patient", {"patient": ("",) * 4}, "--group-by patient: the column is empty"),
    ],
)
def test_groups_that_cannot_be_found_are_refused(group_by, columns, message):
    images = replace(listing({"": [2, 2]}), columns=columns)
    with pytest.raises(DataError, match=message):
        example_groups(images, group_by, "data")


@pytest.mark.parametrize("how", ["stratified", "paper"])
@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_cut_and_sizes_are_close(how, seed):
    images = grouped(seed, 60)
    rows = np.arange(len(images.ids))
    held_out, rest = cutter(images, seed, how).take(rows, len(rows) // 5, "cut val")
    assert not groups_in(images, held_out) & groups_in(images, rest)
    assert sorted([*held_out, *rest]) == rows.tolist()
    assert abs(len(held_out) - len(rows) // 5) <= 12


@pytest.mark.parametrize("seed", range(3))
def test_groups_cut_as_in_the_paper_are_cut_without_regard_to_classes(seed):
    images = grouped(seed, 60)
    other = replace(images, labels=np.random.default_rng(seed).permutation(images.labels))
    rows = np.arange(len(images.ids))
    for how, same in (("paper", True), ("stratified", False)):
        cuts = [cutter(listing, seed, how).take(rows, 80, "cut val")[0] for listing in (images, other)]
        assert np.array_equal(*cuts) == same


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_folded_as_evenly_as_scikit_learn_folds_them(seed):
    images = grouped(seed, 80)
    rows = np.arange(len(images.ids))
    ours = cutter(images, seed).folds(rows, 5)
    assert all(len(set(ours[[row for row in rows if images.ids[row].startswith(f"p{group:03d}_")]])) == 1 for group in range(80))
    theirs = np.empty(len(rows), dtype=int)
    for fold, (_, test) in enumerate(StratifiedGroupKFold(5).split(rows, images.labels, [image.split("_")[0] for image in images.ids])):
        theirs[test] = fold
    assert imbalance(images.labels, ours, 5) <= imbalance(images.labels, theirs, 5) + 0.5


def test_cutting_groups_never_takes_the_last_of_a_class():
    for seed in range(30):
        images = grouped(seed, 12, classes=5, mixed=False)
        rows = np.arange(len(images.ids))
        _, rest = cutter(images, seed).take(rows, len(rows) // 2, "cut val")
        assert set(images.labels[rest]) == set(images.labels)


def test_a_class_in_a_single_group_stays_in_train():
    images = Listing(tuple(f"p{n // 4:03d}_{n % 4}" for n in range(40)), np.array([n < 4 for n in range(40)]).astype(int), ("a", "b"), None)
    for seed in range(10):
        held_out, _ = cutter(images, seed).take(np.arange(40), 8, "cut val")
        assert len(held_out) == 8
        assert "p000" not in groups_in(images, held_out)


def test_one_group_cannot_be_cut():
    images = grouped(0, 1)
    rows = np.arange(len(images.ids))
    for seats in (0, 1, len(rows)):
        held_out, rest = cutter(images).take(rows, seats, "cut val")
        assert (len(held_out), len(rest)) == (0, len(rows))


def test_no_fold_is_empty_with_as_many_groups_as_folds():
    for seed in range(10):
        images = grouped(seed, 6, mixed=False)
        assert len(set(cutter(images, seed).folds(np.arange(len(images.ids)), 6))) == 6


def test_every_group_is_held_out_now_and_then_whatever_its_size():
    images = grouped(1, 20)
    rows = np.arange(len(images.ids))
    taken = [groups_in(images, cutter(images, seed).take(rows, len(rows) // 5, "cut val")[0]) for seed in range(200)]
    counts = [sum(f"p{group:03d}" in groups for groups in taken) for group in range(20)]
    assert min(counts) > 0


def test_groups_of_one_are_spread_like_classes():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    parts = spread_groups(np.arange(100), labels, np.random.default_rng(0).permutation(100), np.array([0.2, 0.8]), keep_classes=True)
    assert np.bincount(labels[parts == 0]).tolist() == [10, 6, 4]
