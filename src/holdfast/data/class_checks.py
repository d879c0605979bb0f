"""Checks of classes: there are two or more, and each has something to learn from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from holdfast.data.source import Listing, list_some
from holdfast.data.splits import Splits
from holdfast.errors import DataError

__all__ = ["check_classes"]

log = logging.getLogger("holdfast")


def check_classes(spec: str, listing: Listing, splits: Splits, *, allow_empty: bool) -> None:
    """Refuse a dataset that cannot be learned from as it is split.

    Args:
        spec: The dataset as the user named it.
        listing: All images.
        splits: Which of them are used.
        allow_empty: Whether classes without a training image are only warned of.

    Raises:
        DataError: There is one class, no training image, or a class lacks training images.
    """
    if len(listing.classes) < 2:
        raise DataError(_one_class(spec, listing.classes[0]))
    if not len(splits.rows["train"]):
        raise DataError(f"{spec}: the train split has no {listing.unit} ({splits.rule}).")
    counts = {name: np.bincount(listing.labels[rows], minlength=len(listing.classes)) for name, rows in splits.rows.items()}
    empty = np.flatnonzero(counts["train"] == 0)
    if not len(empty):
        return
    message = f"{spec}: {_describe(spec, listing, counts, empty)}"
    if not allow_empty:
        raise DataError(f"{message}. Add {listing.unit}s, remove the class, or type --allow-empty-classes to go on without learning them.")
    log.warning("%s; going on, as --allow-empty-classes says", message)


def _one_class(spec: str, name: str) -> str:
    message = f"{spec}: there is only one class, {name!r}, so there is nothing to tell apart; expected "
    if not Path(spec, name).is_dir():
        return f"{message}two or more."
    return f"{message}a folder for each of two or more classes. If they are one level deeper, give {spec.rstrip('/')}/{name}."


def _describe(spec: str, listing: Listing, counts: dict[str, np.ndarray], empty: np.ndarray) -> str:
    names = [listing.classes[k] for k in empty]
    everywhere = np.bincount(listing.labels, minlength=len(listing.classes))
    held_out = [split for split in counts if split != "train" and counts[split][empty].any()]
    if not everywhere[empty].any():
        folders = "its folder" if len(names) == 1 else "their folders"
        why = f"there is none in {folders}" if Path(spec).is_dir() else "there is none at all"
    elif held_out:
        why = f"but {' and '.join(held_out)} {'has' if len(held_out) == 1 else 'have'} some"
    else:
        why = "after --train-list, --skip-bad, --train-fraction and the cut of the splits"
    subject = f"class {names[0]!r} has" if len(names) == 1 else f"{len(names)} of {len(listing.classes)} classes have"
    listed = "" if len(names) == 1 else f": {list_some(names)}"
    return f"{subject} no training {listing.unit} ({why}){listed}"
