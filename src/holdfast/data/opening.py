"""From what the user typed as DATA to a source of images or texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.data.digits import load_digits
from holdfast.data.folder import read_folder
from holdfast.data.hf_folder import read_hf_folder
from holdfast.data.shards import read_shards
from holdfast.data.source import DataSource
from holdfast.data.table import read_table
from holdfast.data.torchvision_sets import read_torchvision
from holdfast.errors import DataError, suggest

__all__ = ["DEMOS", "open_source"]

DEMOS: dict[str, Callable[[], DataSource]] = {"digits": load_digits}
"""Datasets that need no download."""

_TABLES = (".csv", ".tsv", ".jsonl")


def open_source(spec: str, *, test_split: str | None = None) -> DataSource:
    """The dataset behind DATA.

    Args:
        spec: A folder of images, a table, ``torchvision:NAME``, ``hf:FOLDER``, ``wds:PATTERN`` or ``demo:NAME``.
        test_split: Name of a folder, or of a split in a table, that is to be read as a split too.

    Raises:
        DataError: There is no such dataset, or it cannot be used.
    """
    if spec.startswith("demo:"):
        name = spec.removeprefix("demo:")
        if name not in DEMOS:
            raise DataError(f"{spec}: unknown demo dataset {name!r}. {suggest(name, DEMOS)}")
        return DEMOS[name]()
    if spec.startswith("torchvision:"):
        return read_torchvision(spec)
    if spec.startswith("hf:"):
        return read_hf_folder(spec, test_split=test_split)
    if spec.startswith("wds:"):
        return read_shards(spec, test_split=test_split)
    if Path(spec).is_dir():
        return read_folder(spec, test_split=test_split)
    if spec.lower().endswith(".json"):
        raise DataError(f"{spec}: a table of this kind is read from JSON lines, one object a line, in a file that ends in .jsonl.")
    if spec.lower().endswith(_TABLES):
        return read_table(spec, test_split=test_split)
    return read_folder(spec, test_split=test_split)
