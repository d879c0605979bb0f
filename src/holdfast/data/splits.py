"""Train, validation and test: given splits are used as they are, missing ones are cut, and the cut is stored with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from holdfast.data.cutting import Cutter
from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.groups import Groups, example_groups
from holdfast.data.options import DataOptions
from holdfast.data.source import IntArray, Listing, list_some
from holdfast.errors import DataError

__all__ = ["SPLITS", "Splits", "choose_test_split", "make_splits"]

SPLITS = ("train", "val", "test")

_HELD_OUT = 0.15
"""Share of val and of test where the dataset has no splits: 70/15/15."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Splits:
    """Which images a run uses, and for what.

    Args:
        rows: Positions in the listing, sorted, for each split that there is.
        val_from: Where val comes from, in words; None where there is no val.
        rule: How the splits were made, in one line.
        notes: What the user should know.
    """

    rows: Mapping[str, IntArray]
    val_from: str | None
    rule: str
    notes: tuple[str, ...] = ()

    def with_train(self, train: IntArray, rule: str, note: str = "") -> Splits:
        """These splits with fewer training images."""
        notes = (*self.notes, note) if note else self.notes
        return replace(self, rows={**self.rows, "train": train}, rule=f"{self.rule}; {rule}", notes=notes)


def choose_test_split(listing: Listing, name: str | None, spec: str) -> Listing:
    """The listing with the images of the split ``name`` as test; a split called test besides it is left out.

    Raises:
        DataError: There is no such split.
    """
    if name is None:
        return listing
    split = SPLIT_FOLDERS.get(name.lower(), name)
    if listing.given is None:
        raise DataError(f"--test-split {name}: {spec} has no splits, so test is cut from it; leave the option out.")
    if split == "train":
        raise DataError(f"--test-split {name}: the test split cannot be the one that is trained on.")
    if split not in listing.given_splits:
        raise DataError(f"--test-split {name}: {spec} has no such split; it has {list_some(listing.given_splits)}.")
    kept = listing.take(np.array([row for row, given in enumerate(listing.given) if split == "test" or given != "test"], dtype=np.int64))
    return replace(kept, given=tuple("test" if given == split else given for given in kept.given or ()))


def make_splits(listing: Listing, options: DataOptions, *, listed: Mask | None = None, dropped: Iterable[str] = ()) -> Splits:
    """Cut what is missing, by ids, labels, groups and ``--data-seed`` alone, and as if dropped images had never been there.

    A train list, then ``--train-fraction``, restrict the given train split before val or a fold is cut from it. Where nothing is given,
    the cut comes first and is the same for every list and fraction, which then restrict what is left for training. ``--shots`` comes
    last.

    Args:
        listing: All images.
        options: ``val_fraction``, ``split``, ``folds``, ``fold``, ``group_by``, ``train_fraction``, ``shots``, ``data_seed``.
        listed: Mask (N,) of ``--train-list``.
        dropped: Ids that cannot be used.

    Raises:
        DataError: The groups or folds asked for cannot be made of this dataset.
    """
    gone = set(dropped)
    kept = np.array([image not in gone for image in listing.ids], dtype=bool)
    groups = None if options.group_by is None else example_groups(listing, options.group_by, options.data)
    cutter = Cutter(listing, options.split, options.data_seed, None if groups is None else groups.of)
    if listing.given is None:
        rows = np.flatnonzero(kept)
        splits = _cut_everything(cutter, rows, options) if options.folds is None else _cut_fold(cutter, rows, options)
        splits = _restrict(cutter, splits, listed, options.train_fraction)
    else:
        splits = _complete(cutter, _given_rows(cutter, kept, listed, options.train_fraction), options)
        splits = replace(splits, rule=splits.rule + _words_before_the_cut(listed, options.train_fraction))
    if groups is not None:
        splits = replace(splits, notes=(*splits.notes, *_group_notes(groups, splits, str(options.group_by))))
    return splits if options.shots is None else _keep_shots(cutter, splits, options.shots)


def _cut_everything(cutter: Cutter, rows: IntArray, options: DataOptions) -> Splits:
    seats = int(_HELD_OUT * len(rows) + 0.5)
    test, train = cutter.take(rows, seats, "cut test")
    parts = {"train": train, "test": test}
    if options.val_fraction > 0:
        parts["val"], parts["train"] = cutter.take(train, seats, "cut val")
        shares = "70/15/15, whatever --val-fraction above 0"
    else:
        shares = "85/0/15, since --val-fraction is 0"
    notes = [_nothing_held_out(name, options) for name in ("test", "val") if name in parts and seats and not len(parts[name])]
    return _tidy(parts, "cut from all", f"nothing given; train/val/test cut {shares} ({cutter.words})", tuple(notes))


def _cut_fold(cutter: Cutter, rows: IntArray, options: DataOptions) -> Splits:
    """A fold as test, and val cut from the others."""
    test, train = _hold_out_fold(cutter, rows, options)
    val, rest = cutter.take(train, _val_seats(len(train), options), "cut val")
    rule = f"nothing given; test is {_fold_words(options)}, val {options.val_fraction:g} of the rest ({cutter.words})"
    return _tidy({"train": rest, "val": val, "test": test}, "cut from train", rule, _val_notes(val, len(train), options))


def _restrict(cutter: Cutter, splits: Splits, listed: Mask | None, fraction: float | None) -> Splits:
    """``--train-list`` and ``--train-fraction`` after the cut."""
    if listed is not None:
        train = splits.rows["train"]
        kept = train[listed[train]]
        held_out = int(listed.sum()) - len(kept)
        note = f"{held_out} {cutter.listing.unit}s of --train-list are held out for val or test, since the dataset has no split folders"
        splits = splits.with_train(kept, "train restricted by --train-list after the cut", note if held_out else "")
    if fraction is not None:
        splits = splits.with_train(cutter.share(splits.rows["train"], fraction), f"{fraction:g} of train drawn after the cut")
    return splits


# ------------------------------------------------------------------------------------------------------------ splits are given


def _given_rows(cutter: Cutter, kept: Mask, listed: Mask | None, fraction: float | None) -> dict[str, IntArray]:
    """The rows of each given split, train restricted by ``--train-list`` and ``--train-fraction``."""
    given = np.array(cutter.listing.given)
    rows = {name: np.flatnonzero(kept & (given == name)) for name in SPLITS if np.any(kept & (given == name))}
    if "train" in rows and listed is not None:
        rows["train"] = rows["train"][listed[rows["train"]]]
    if "train" in rows and fraction is not None:
        rows["train"] = cutter.share(rows["train"], fraction)
    return rows


def _words_before_the_cut(listed: Mask | None, fraction: float | None) -> str:
    by_list = "" if listed is None else "; train restricted by --train-list before any cut"
    return by_list + ("" if fraction is None else f"; {fraction:g} of train drawn before any cut")


def _complete(cutter: Cutter, rows: dict[str, IntArray], options: DataOptions) -> Splits:
    """Given splits, and val, where it is missing, cut from train or a fold of it."""
    rule = f"{', '.join(name for name in SPLITS if name in rows)} given"
    train = rows.get("train", np.zeros(0, dtype=np.int64))
    if options.folds is not None:
        if "val" in rows:
            raise DataError(
                f"--folds {options.folds}: {options.data} has a val split, and the fold would be a second one; leave --folds out, "
                "or type --test-split val to test on it."
            )
        val, rest = _hold_out_fold(cutter, train, options)
        rule += f"; val is {_fold_words(options)} of train ({cutter.words})"
        return _tidy({**rows, "train": rest, "val": val}, "cut from train", rule)
    if "val" in rows or options.val_fraction == 0:
        return _tidy({**rows, "train": train}, "given", rule)
    val, rest = cutter.take(train, _val_seats(len(train), options), "cut val")
    rule += f"; val is {options.val_fraction:g} of train ({cutter.words})"
    return _tidy({**rows, "train": rest, "val": val}, "cut from train", rule, _val_notes(val, len(train), options))


# --------------------------------------------------------------------------------------------------------------------- parts


def _val_seats(size: int, options: DataOptions) -> int:
    """How many of ``size`` training images become val."""
    # The paper's cut is defined by the size of train, not of val.
    return size - int((1 - options.val_fraction) * size) if options.split == "paper" else int(options.val_fraction * size + 0.5)


def _val_notes(val: IntArray, size: int, options: DataOptions) -> tuple[str, ...]:
    if len(val) or not options.val_fraction:
        return ()
    if _val_seats(size, options) and options.group_by is not None:
        return (_nothing_held_out("val", options),)
    return (f"--val-fraction {options.val_fraction:g} of {size} training examples is none, so there is no val split",)


def _nothing_held_out(split: str, options: DataOptions) -> str:
    if options.group_by is None:
        return f"no class can spare an example, so there is no {split} split"
    return (
        f"--group-by {options.group_by}: no whole group can be held out without taking far too much or the last of a class, "
        f"so there is no {split} split"
    )


def _hold_out_fold(cutter: Cutter, rows: IntArray, options: DataOptions) -> tuple[IntArray, IntArray]:
    """The fold that is held out, and all others."""
    assert options.folds is not None
    units = len(rows) if cutter.groups is None else len({cutter.groups[row] for row in rows})
    if units < options.folds:
        what = f"{cutter.listing.unit}s" if cutter.groups is None else f"groups by --group-by {options.group_by}"
        raise DataError(f"--folds {options.folds}: {options.data} has only {units} {what} to cut them from; choose at most {units}.")
    held_out = cutter.folds(rows, options.folds) == (options.fold or 0)
    return rows[held_out], rows[~held_out]


def _fold_words(options: DataOptions) -> str:
    return f"fold {options.fold} of {options.folds} (counted from 0)"


def _tidy(parts: dict[str, IntArray], val_from: str, rule: str, notes: tuple[str, ...] = ()) -> Splits:
    """Splits in their order, without the empty ones; train is kept so that the checks can speak of it."""
    rows = {name: parts[name] for name in SPLITS if name == "train" or len(parts.get(name, ()))}
    return Splits(rows, val_from if "val" in rows else None, rule, notes)


def _group_notes(groups: Groups, splits: Splits, group_by: str) -> tuple[str, ...]:
    """What the user should know about groups: which have no name, and which the dataset itself has cut through."""
    notes = []
    if groups.alone:
        notes.append(f"--group-by {group_by}: {groups.alone} of {len(groups.of)} examples name no group, so each of them is one by itself")
    found: dict[str, list[str]] = {}
    for split, rows in splits.rows.items():
        for group in {groups.of[row] for row in rows}:
            found.setdefault(group, []).append(split)
    shared = sorted(group for group, names in found.items() if len(names) > 1)
    if shared:
        which = f"{shared[0]!r} in {' and '.join(found[shared[0]])}"
        notes.append(
            f"--group-by {group_by}: {len(shared)} groups are in more than one split, since the dataset's own divide them, such as "
            f"{which}; results on val and test may be too good; give the data without splits to have them cut by groups"
        )
    return tuple(notes)


def _keep_shots(cutter: Cutter, splits: Splits, shots: int) -> Splits:
    listing = cutter.listing
    kept = cutter.keep_shots(splits.rows["train"], shots)
    counts = np.bincount(listing.labels[kept], minlength=len(listing.classes))
    short = [name for name, count in zip(listing.classes, counts, strict=True) if 0 < count < shots]
    fewer = f"fewer training {listing.unit}s and keep all: {list_some(short)}"
    note = f"--shots {shots}: {len(short)} of {len(listing.classes)} classes have {fewer}"
    return splits.with_train(kept, f"{shots} of each class of train kept", note if short else "")
