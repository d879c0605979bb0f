"""From what the user typed as DATA to a source of images."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.data.digits import load_digits
from holdfast.data.folder import read_folder
from holdfast.data.source import ImageSource
from holdfast.errors import DataError, suggest

__all__ = ["DEMOS", "open_source"]

DEMOS: dict[str, Callable[[], ImageSource]] = {"digits": load_digits}
"""Datasets that need no download."""

_NOT_YET = {"hf:": "Hugging Face datasets", "torchvision:": "torchvision's datasets", "wds:": "WebDataset archives"}
_TABLES = (".csv", ".tsv", ".json", ".jsonl")


def open_source(spec: str, *, test_split: str | None = None) -> ImageSource:
    """The dataset behind DATA.

    Args:
        spec: A folder of images, or ``demo:NAME``.
        test_split: Name of a folder that is to be read as a split too.

    Raises:
        DataError: There is no such dataset, or its kind is not available.
    """
    if spec.startswith("demo:"):
        name = spec.removeprefix("demo:")
        if name not in DEMOS:
            raise DataError(f"{spec}: unknown demo dataset {name!r}. {suggest(name, DEMOS)}")
        return DEMOS[name]()
    kind = next((words for prefix, words in _NOT_YET.items() if spec.startswith(prefix)), None)
    if kind is None and spec.lower().endswith(_TABLES):
        kind = "tables"
    if kind is not None:
        raise DataError(
            f"{spec}: {kind} cannot be read in this version; give a folder of images (CLASS/… or train|val|test/CLASS/…) or demo:digits."
        )
    return read_folder(spec, test_split=test_split)
