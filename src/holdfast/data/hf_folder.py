"""``hf:FOLDER``: a dataset of the Hugging Face ``datasets`` library that lies on disk; nothing is downloaded."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.source import IntArray, Listing, list_some
from holdfast.errors import DataError, DependencyError

__all__ = ["HubFolderSource", "read_hf_folder"]

log = logging.getLogger("holdfast")

_ALL = "all"
"""First part of the ids of a dataset without splits."""


@dataclass(frozen=True)
class HubFolderSource:
    """Images in the tables of a dataset.

    Args:
        spec: The dataset as the user named it.
        root: Its folder.
        listing: What there is; ids are ``SPLIT/ROW``.
        images: The column of images of each split, undecoded: a ``datasets.Dataset`` that stays on disk.
        sizes: Bytes (N,) of each image, by split; 0 for a file of its own.
    """

    spec: str
    root: Path
    listing: Listing
    images: Mapping[str, Any]
    sizes: Mapping[str, IntArray]

    def open(self, image: str) -> BinaryIO:
        """The image file in a row, or the file whose path is there."""
        split, row = self._place(image)
        (cell,) = self.images[split][row].values()
        cell = cell or {}
        if cell.get("bytes") is not None:
            return io.BytesIO(cell["bytes"])
        if cell.get("path") is None:
            raise DataError("the row holds no image")
        return open(cell["path"], "rb")

    def size(self, image: str) -> int:
        """Bytes of that file."""
        split, row = self._place(image)
        return int(self.sizes[split][row])

    def _place(self, image: str) -> tuple[str, int]:
        split, _, row = image.rpartition("/")
        return split, int(row)


def read_hf_folder(spec: str, *, test_split: str | None = None) -> HubFolderSource:
    """List the images of a folder that ``save_to_disk`` wrote, or that holds Parquet files as a repository of the hub does.

    The label is the column ``label``, or the only one of type ``ClassLabel``; the image is the column ``image``, or the only one of type
    ``Image``. Splits are named as folders are; others are ignored. What else is text or a whole number becomes a further column.

    Args:
        spec: ``hf:FOLDER``.
        test_split: A further name that means a split.

    Raises:
        DataError: The folder is missing, is no such dataset, or has no images or labels.
        DependencyError: The library is not installed.
    """
    root = Path(spec.removeprefix("hf:"))
    if not root.is_dir():
        raise DataError(
            f"{spec}: there is no folder {str(root)!r}, and holdfast downloads no datasets; if it is one of the hub, type hf download "
            f"--repo-type dataset {root} --local-dir {root.name}, then give hf:{root.name}."
        )
    parts = {name: _Part.of(spec, name, dataset) for name, dataset in _load(spec, root).items()}
    splits = _splits(spec, list(parts), test_split)
    parts = {name: parts[name] for name in splits if _is_labelled(spec, name, parts[name])}
    classes = [name for part in parts.values() for name in part.classes]
    names = [name for part in parts.values() for name in part.names]
    shared = set.intersection(*(set(part.columns) for part in parts.values()))
    listing = Listing.of(
        ids=[f"{name}/{row:06d}" for name, part in parts.items() for row in range(len(part.names))],
        names=[str(name) for name in names],
        classes=classes,
        given=None if list(parts) == [_ALL] else [splits[name] for name, part in parts.items() for _ in part.names],
        columns={column: [cell for part in parts.values() for cell in part.columns[column]] for column in sorted(shared)},
    )
    return HubFolderSource(
        spec, root, listing, {name: part.images for name, part in parts.items()}, {name: part.sizes for name, part in parts.items()}
    )


# -------------------------------------------------------------------------------------------------------------------- reading


def _load(spec: str, root: Path) -> dict[str, Any]:
    """The datasets in a folder by the name of their split."""
    try:
        import datasets
    except ImportError:
        raise DependencyError(f'{spec}: this needs the package datasets; type pip install "holdfast[hf]".') from None
    saved = any((root / name).exists() for name in ("state.json", "dataset_dict.json"))
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(str(root)) if saved else datasets.load_dataset(str(root))
    except Exception as error:  # the library raises errors of many kinds, some of them long
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise DataError(
            f"{spec}: this folder cannot be read as a dataset ({type(error).__name__}: {reason}); expected what save_to_disk wrote, or "
            "Parquet files named after their splits."
        ) from None
    finally:
        if shown:
            datasets.enable_progress_bars()
    parts = loaded if isinstance(loaded, dict) else {_ALL: loaded}
    return {str(name): part.with_format(None) for name, part in parts.items()}


@dataclass(frozen=True)
class _Part:
    """One split.

    Args:
        images: The column of images.
        sizes: Bytes (N,) of each.
        names: Class name of each example; None where there is no label.
        classes: All class names that the dataset declares.
        columns: Further columns as text.
    """

    images: Any
    sizes: IntArray
    names: Sequence[str | None]
    classes: Sequence[str]
    columns: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, spec: str, split: str, dataset: Any) -> _Part:
        import datasets

        place = spec if split == _ALL else f"{spec}, split {split!r}"
        features = dataset.features
        image, label = _image_column(place, features), _label_column(place, features)
        images = dataset.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        feature = features[label]
        values = dataset[label][:]
        declared = list(feature.names) if isinstance(feature, datasets.ClassLabel) else []
        if declared:
            names = [declared[value] if value is not None and value >= 0 else None for value in values]
        else:
            names = [None if value is None or value == "" else str(value) for value in values]
        columns = {name: tuple(map(str, dataset[name][:])) for name in features if name not in (image, label) and _is_plain(features[name])}
        return cls(images, _sizes(images), names, declared, columns)


def _image_column(place: str, features: Mapping[str, Any]) -> str:
    import datasets

    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    # Files written without the library hold bytes, alone or beside a path.
    plain = features.get("image")
    if "image" in found or (isinstance(plain, dict) and "bytes" in plain) or getattr(plain, "dtype", "") in ("binary", "large_binary"):
        return "image"
    return _only(place, found, "image", "images", features)


def _label_column(place: str, features: Mapping[str, Any]) -> str:
    import datasets

    found = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if "label" in found or _is_plain(features.get("label")):
        return "label"
    return _only(place, found, "label", "labels", features)


def _only(place: str, found: Sequence[str], name: str, what: str, features: Mapping[str, Any]) -> str:
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{place}: {list_some(found)} hold {what}; rename the one that is meant to {name!r}.")
    raise DataError(f"{place}: there is no column of {what}; the columns are {list_some(tuple(features))}; name it {name!r}.")


def _is_plain(feature: Any) -> bool:
    """Whether cells are texts, whole numbers or truth values."""
    return getattr(feature, "dtype", None) in ("string", "large_string", "bool") or "int" in str(getattr(feature, "dtype", ""))


def _sizes(images: Any) -> IntArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    (column,) = images.with_format("arrow")[:].columns
    if column.num_chunks == 0:
        return np.zeros(0, dtype=np.int64)
    lengths = pc.fill_null(pc.binary_length(pc.struct_field(column, "bytes")), 0)
    return np.asarray(lengths.cast(pa.int64()).to_numpy(), dtype=np.int64)


# --------------------------------------------------------------------------------------------------------------------- splits


def _splits(spec: str, names: Sequence[str], test_split: str | None) -> dict[str, str]:
    """The splits to use and what they mean, by their own name."""
    if list(names) == [_ALL]:
        return {_ALL: ""}
    splits: dict[str, str] = {}
    for name in names:
        split = SPLIT_FOLDERS.get(name.lower(), name if name == test_split else None)
        if split in splits.values():
            raise DataError(f"{spec}: two of the splits {list_some(names)} mean {split!r}; keep one of them.")
        if split is not None:
            splits[name] = split
    if "train" not in splits.values():
        raise DataError(f"{spec}: there is no split 'train', only {list_some(names)}.")
    ignored = [name for name in names if name not in splits]
    if ignored:
        log.info("%s: ignored the splits %s", spec, list_some(ignored))
    return splits


def _is_labelled(spec: str, name: str, part: _Part) -> bool:
    """Whether a split has labels; one that has none at all is left out, as in contests, where the organisers keep them."""
    without = [row for row, label in enumerate(part.names) if label is None]
    if not without:
        return True
    if len(without) < len(part.names) or SPLIT_FOLDERS.get(name.lower()) == "train" or name == _ALL:
        rows = "one row has" if len(without) == 1 else f"{len(without)} rows have"
        raise DataError(f"{spec}: {rows} no label (row {without[0]} of {name!r} is the first); remove them.")
    log.warning("%s: the split %r has no labels and is left out", spec, name)
    return False
