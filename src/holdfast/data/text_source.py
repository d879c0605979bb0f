"""Texts that a table holds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from holdfast.data.source import Listing

__all__ = ["TextSource", "line_ids"]


@dataclass(frozen=True)
class TextSource:
    """Texts by id."""

    spec: str
    root: Path
    listing: Listing
    texts: Mapping[str, str]

    def open(self, text: str) -> BinaryIO:
        """The UTF-8 of a text."""
        return io.BytesIO(self.texts[text].encode())

    def size(self, text: str) -> int:
        """Bytes of that."""
        return len(self.texts[text].encode())


def line_ids(lines: Sequence[int], splits: Sequence[str] | None) -> list[str]:
    """Ids of rows that have none of their own: the split, where one is given, and the line of the table.

    Example:
        >>> line_ids([2, 3], ["train", "val"]), line_ids([2], None)
        (['train/000002', 'val/000003'], ['000002'])
    """
    numbers = [f"{line:06d}" for line in lines]
    return numbers if splits is None else [f"{split}/{number}" for split, number in zip(splits, numbers, strict=True)]
