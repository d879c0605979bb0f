"""``demo:digits``: the handwritten digits that scikit-learn ships, real images that need no download."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from holdfast.data.source import Listing

__all__ = ["DigitsSource", "load_digits"]


@dataclass(frozen=True)
class DigitsSource:
    """1797 images of 8 x 8 pixels, each as a PGM file in memory, so that they take the same way as image files on disk."""

    listing: Listing
    files: tuple[bytes, ...]
    spec: str = "demo:digits"
    root: Path | None = None

    def open(self, image: str) -> BinaryIO:
        """The PGM file of ``digits/NNNN``."""
        return io.BytesIO(self.files[self._row(image)])

    def size(self, image: str) -> int:
        """Bytes of that file."""
        return len(self.files[self._row(image)])

    def _row(self, image: str) -> int:
        return int(image.removeprefix("digits/"))


def load_digits() -> DigitsSource:
    """The dataset in scikit-learn's order, its values 0..16 scaled to 0..255; no given splits."""
    from sklearn import datasets  # takes over a second, and only this dataset needs it

    digits = datasets.load_digits()
    pixels = ((digits.images.astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    listing = Listing(
        ids=tuple(f"digits/{row:04d}" for row in range(len(pixels))),
        labels=digits.target.astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
        given=None,
    )
    return DigitsSource(listing, tuple(b"P5 8 8 255\n" + image.tobytes() for image in pixels))
