"""Listings without images, and an independent definition of largest remainder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from holdfast.data.source import Listing


def listing(counts: Mapping[str, Sequence[int]]) -> Listing:
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


def hamilton(counts: Sequence[int], seats: int) -> list[int]:
    """Largest remainder with fractions, seat by seat, never the last of a class."""
    total = sum(counts)
    quotas = [Fraction(count * seats, total) for count in counts]
    taken = [int(quota) for quota in quotas]
    for k in sorted(range(len(counts)), key=lambda k: (-(quotas[k] - int(quotas[k])), k)):
        if sum(taken) < seats and taken[k] + 1 < counts[k]:
            taken[k] += 1
    return taken
