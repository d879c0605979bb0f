"""Train, validation and test: given splits are used as they are, missing ones are cut, and the cut is stored with the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.keyed import example_keys, permutation
from holdfast.data.options import DataOptions
from holdfast.data.source import IntArray, Listing, list_some
from holdfast.errors import DataError

__all__ = ["SPLITS", "Splits", "choose_test_split", "largest_remainder", "make_splits"]

SPLITS = ("train", "val", "test")

_HELD_OUT = 0.15
"""Share of val and of test where the dataset has no splits: 70/15/15."""


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


def choose_test_split(listing: Listing, name: str | None, spec: str) -> Listing:
    """The listing with the images of the split ``name`` as test; a split called test besides it is left out.

    Raises:
        DataError: There is no such split.
    """
    if name is None:
        return listing
    split = SPLIT_FOLDERS.get(name.lower(), name)
    if listing.given is None:
        raise DataError(f"--test-split {name}: {spec} has no split folders, so test is cut from it; leave the option out.")
    if split == "train":
        raise DataError(f"--test-split {name}: the test split cannot be the one that is trained on.")
    if split not in listing.given_splits:
        raise DataError(f"--test-split {name}: {spec} has no such split folder with images; it has {list_some(listing.given_splits)}.")
    kept = [row for row, given in enumerate(listing.given) if split == "test" or given != "test"]
    return replace(
        listing,
        ids=tuple(listing.ids[row] for row in kept),
        labels=listing.labels[kept],
        given=tuple("test" if listing.given[row] == split else listing.given[row] for row in kept),
    )


def make_splits(
    listing: Listing, options: DataOptions, *, listed: npt.NDArray[np.bool_] | None = None, dropped: Iterable[str] = ()
) -> Splits:
    """Cut what is missing. The result depends on ids, labels and ``--data-seed`` alone, and is as if dropped images were never there.

    A train list restricts the given train split before val is cut from it. Where nothing is given, the cut comes first and is the same
    for every list. ``--shots`` comes last.

    Args:
        listing: All images.
        options: ``val_fraction``, ``split``, ``shots``, ``data_seed``.
        listed: Mask (N,) of ``--train-list``.
        dropped: Ids that cannot be used.
    """
    gone = set(dropped)
    kept = np.array([image not in gone for image in listing.ids], dtype=bool)
    cutter = _Cutter(listing, options.split, options.data_seed)
    if listing.given is None:
        splits = _cut_everything(cutter, np.flatnonzero(kept), options)
        if listed is not None:
            splits = _restrict(splits, listed)
    else:
        given = np.array(listing.given)
        usable = kept if listed is None else kept & (listed | (given != "train"))
        rows = {name: np.flatnonzero(usable & (given == name)) for name in SPLITS if np.any(kept & (given == name))}
        splits = _complete(cutter, rows, options)
        if listed is not None:
            splits = replace(splits, rule=f"{splits.rule}; train restricted by --train-list before any cut")
    return splits if options.shots is None else _keep_shots(cutter, splits, options.shots)


def largest_remainder(counts: IntArray, seats: int) -> IntArray:
    """Share out ``seats`` in proportion to ``counts``, leaving at least one of each count.

    Each class gets the whole part of its quota ``counts * seats / sum(counts)``; what is left goes to the largest remainders, the first
    class first among equals.

    Args:
        counts: Examples (K,) of each class.
        seats: How many to take in all.

    Returns:
        How many to take (K,) of each class; fewer than ``seats`` in all where the classes cannot spare them.

    Example:
        >>> largest_remainder(np.array([10, 7, 3]), 4)
        array([2, 1, 1])
    """
    if not counts.sum():
        return np.zeros_like(counts)
    quotas, remainders = np.divmod(counts * seats, counts.sum())  # whole numbers, so that no rounding decides
    spare = np.maximum(counts - 1, 0)
    taken = np.minimum(quotas, spare)
    order = np.argsort(-remainders, kind="stable")
    while (left := seats - int(taken.sum())) > 0 and np.any(taken < spare):
        roomy = order[taken[order] < spare[order]]
        taken[roomy[:left]] += 1
    return taken


@dataclass(frozen=True)
class _Cutter:
    """Takes random rows away from others."""

    listing: Listing
    how: str
    seed: int

    def take(self, rows: IntArray, seats: int, stream: str) -> tuple[IntArray, IntArray]:
        """``seats`` of ``rows``, class by class or uniformly, and the rest; both sorted."""
        order = rows[permutation(stream, self.seed, 0, example_keys(self.listing.ids[row] for row in rows))]
        if self.how == "paper":
            chosen = np.arange(len(order)) < seats
        else:
            labels = self.listing.labels[order]
            counts = np.bincount(labels, minlength=len(self.listing.classes))
            chosen = _rank_in_class(labels) < largest_remainder(counts, seats)[labels]
        return np.sort(order[chosen]), np.sort(order[~chosen])

    @property
    def words(self) -> str:
        """The way of cutting, for the record."""
        return f"{'uniformly at random' if self.how == 'paper' else 'class by class, largest remainder'}, data seed {self.seed}"


def _cut_everything(cutter: _Cutter, rows: IntArray, options: DataOptions) -> Splits:
    seats = int(_HELD_OUT * len(rows) + 0.5)
    test, train = cutter.take(rows, seats, "cut test")
    parts = {"train": train, "test": test}
    if options.val_fraction > 0:
        parts["val"], parts["train"] = cutter.take(train, seats, "cut val")
        shares = "70/15/15, whatever --val-fraction above 0"
    else:
        shares = "85/0/15, since --val-fraction is 0"
    return _tidy(parts, "cut from all", f"nothing given; train/val/test cut {shares} ({cutter.words})")


def _complete(cutter: _Cutter, rows: dict[str, IntArray], options: DataOptions) -> Splits:
    """Given splits, and val cut from train where it is missing."""
    rule = f"{', '.join(name for name in SPLITS if name in rows)} given"
    train = rows.get("train", np.zeros(0, dtype=np.int64))
    if "val" in rows or options.val_fraction == 0:
        return _tidy({**rows, "train": train}, "given", rule)
    size = len(train)
    # The paper's cut is defined by the size of train, not of val.
    seats = size - int((1 - options.val_fraction) * size) if options.split == "paper" else int(options.val_fraction * size + 0.5)
    val, rest = cutter.take(train, seats, "cut val")
    rule += f"; val is {options.val_fraction:g} of train ({cutter.words})"
    notes = () if len(val) else (f"--val-fraction {options.val_fraction:g} of {size} training images is none, so there is no val split",)
    return _tidy({**rows, "train": rest, "val": val}, "cut from train", rule, notes)


def _tidy(parts: dict[str, IntArray], val_from: str, rule: str, notes: tuple[str, ...] = ()) -> Splits:
    """Splits in their order, without the empty ones; train is kept so that the checks can speak of it."""
    rows = {name: parts[name] for name in SPLITS if name == "train" or len(parts.get(name, ()))}
    return Splits(rows, val_from if "val" in rows else None, rule, notes)


def _restrict(splits: Splits, listed: npt.NDArray[np.bool_]) -> Splits:
    train = splits.rows["train"]
    kept = train[listed[train]]
    held_out = int(listed.sum()) - len(kept)
    note = f"{held_out} images of --train-list are held out for val or test, since the dataset has no split folders"
    return replace(
        splits,
        rows={**splits.rows, "train": kept},
        rule=f"{splits.rule}; train restricted by --train-list after the cut",
        notes=(*splits.notes, note) if held_out else splits.notes,
    )


def _keep_shots(cutter: _Cutter, splits: Splits, shots: int) -> Splits:
    """The first ``shots`` of a fixed random order of each class, so that fewer shots are a part of more."""
    train, listing = splits.rows["train"], cutter.listing
    order = train[permutation("shots", cutter.seed, 0, example_keys(listing.ids[row] for row in train))]
    kept = np.sort(order[_rank_in_class(listing.labels[order]) < shots])
    counts = np.bincount(listing.labels[kept], minlength=len(listing.classes))
    short = [name for name, count in zip(listing.classes, counts, strict=True) if 0 < count < shots]
    note = f"--shots {shots}: {len(short)} of {len(listing.classes)} classes have fewer training images and keep all: {list_some(short)}"
    return replace(
        splits,
        rows={**splits.rows, "train": kept},
        rule=f"{splits.rule}; {shots} of each class of train kept",
        notes=(*splits.notes, note) if short else splits.notes,
    )


def _rank_in_class(labels: IntArray) -> IntArray:
    """How many earlier entries have the same label, for each entry."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.searchsorted(ordered, ordered)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks
