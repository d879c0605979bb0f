"""``--group-by``: examples that belong together, such as the photos of one patient, and how whole groups are shared out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from holdfast.data.source import FloatArray, IntArray, Listing, list_some
from holdfast.errors import DataError

__all__ = ["Groups", "example_groups", "spread_groups"]

_OWN = "\0"
"""Before the id of an example that is a group by itself; no text of a table or an id holds it."""


class Groups(NamedTuple):
    """The group of each example (N,), and how many examples are a group by themselves because nothing names theirs."""

    of: tuple[str, ...]
    alone: int


def example_groups(listing: Listing, group_by: str, spec: str) -> Groups:
    """The group of each example.

    It is the text in the column ``group_by`` of a table that has it, else what the regular expression finds in the id: its first
    group, or the whole match where it has none. An example whose text is empty, or in whose id nothing is found, is a group by itself.

    Raises:
        DataError: There is no such column and ``group_by`` is no regular expression, or it is found in no id.
    """
    if group_by in listing.columns:
        found: Sequence[str | None] = listing.columns[group_by]
    else:
        pattern = _compile(group_by, listing, spec)
        found = [_search(pattern, image) for image in listing.ids]
    alone = sum(not text for text in found)
    if alone == len(listing.ids):
        what = "the column is empty" if group_by in listing.columns else _not_found(group_by, listing, spec)
        raise DataError(f"--group-by {group_by}: {what}.")
    return Groups(tuple(text or _OWN + image for text, image in zip(found, listing.ids, strict=True)), alone)


def _compile(group_by: str, listing: Listing, spec: str) -> re.Pattern[str]:
    try:
        return re.compile(group_by)
    except re.error as error:
        raise DataError(
            f"--group-by {group_by}: {_no_column(listing, spec)}, and this is no regular expression ({error}); "
            "type one that finds the group in an id, such as '([^/]+)_[0-9]+'."
        ) from None


def _search(pattern: re.Pattern[str], image: str) -> str | None:
    match = pattern.search(image)
    return None if match is None else match[1] if pattern.groups else match[0]


def _not_found(group_by: str, listing: Listing, spec: str) -> str:
    return f"{_no_column(listing, spec)}, and as a regular expression it finds nothing in any id, such as {listing.ids[0]!r}"


def _no_column(listing: Listing, spec: str) -> str:
    has = f"; it has {list_some(sorted(listing.columns))}" if listing.columns else ""
    return f"{spec} has no such column{has}"


def spread_groups(members: IntArray, labels: IntArray, order: IntArray, shares: FloatArray, *, keep_classes: bool) -> IntArray:
    """Deal whole groups into parts of given sizes, so that each part has its share of every class as far as groups allow.

    Greedy: large groups first (by powers of two, in the given order among about equal ones), each into the part where Pearson's
    chi-square between the counts of classes and their targets, examples in all counted as one more class, grows least. scikit-learn's
    ``StratifiedGroupKFold`` has no parts of unequal shares.

    Args:
        members: Group (N,) of each example, from 0 to G - 1.
        labels: Class (N,) of each example.
        order: The groups (G,) in random order.
        shares: Share (P,) of each part; above 0, with sum 1.
        keep_classes: Whether the last part keeps an example of every class.

    Returns:
        The part (G,) of each group.
    """
    sizes = np.bincount(members)
    counts = _count_classes(members, labels, len(sizes))
    all_classes = np.append(np.bincount(labels), len(labels))
    targets = shares[:, None] * all_classes
    filled = np.zeros_like(targets)
    left = all_classes.copy()  # what the last part holds or can still get
    parts = np.empty(len(sizes), dtype=np.int64)
    magnitude = np.frexp(sizes)[1]
    for group in order[np.argsort(-magnitude[order], kind="stable")].tolist():
        classes, number = counts[group]
        if keep_classes and np.any(left[classes] == number):
            part = len(shares) - 1
        else:
            growth = ((2 * filled[:, classes] + number) * number / targets[:, classes]).sum(axis=1)
            part = int(np.argmin(np.round(growth, 9)))  # rounded, so that ties are ties on every machine
        filled[part, classes] += number
        if part < len(shares) - 1:
            left[classes] -= number
        parts[group] = part
    return parts


def _count_classes(members: IntArray, labels: IntArray, groups: int) -> list[tuple[IntArray, IntArray]]:
    """The classes in each group and their counts; the last class is all examples."""
    everything = int(labels.max()) + 1
    pairs, numbers = np.unique(members * everything + labels, return_counts=True)
    borders = np.searchsorted(pairs, np.arange(groups + 1) * everything)
    return [
        (np.append(pairs[start:end] % everything, everything), np.append(numbers[start:end], numbers[start:end].sum()))
        for start, end in itertools.pairwise(borders)
    ]
