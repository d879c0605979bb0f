"""Image folders: ``CLASS/…`` or ``train|val|test/CLASS/…``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from holdfast.data.source import Listing, list_some
from holdfast.errors import DataError

__all__ = ["IMAGE_EXTENSIONS", "SPLIT_FOLDERS", "FolderSource", "is_image", "read_folder", "walk_images"]

log = logging.getLogger("holdfast")

IMAGE_EXTENSIONS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What counts as an image, compared in lower case; other files are ignored."""

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder names that mean a split, compared in lower case."""

_ARCHIVE_LEFTOVERS = frozenset({"__MACOSX"})


@dataclass(frozen=True)
class FolderSource:
    """Images in a folder."""

    spec: str
    root: Path
    listing: Listing

    def open(self, image: str) -> BinaryIO:
        """The file of an id."""
        return open(self.root / image, "rb")

    def size(self, image: str) -> int:
        """Bytes of that file."""
        try:
            return (self.root / image).stat().st_size
        except OSError:
            return 0


def read_folder(spec: str, *, test_split: str | None = None) -> FolderSource:
    """List the images of a folder; none is opened.

    Class names are the sorted folder names, as in torchvision's ``ImageFolder``; a class may have nested folders.

    Args:
        spec: The folder.
        test_split: A further folder name that means a split.

    Raises:
        DataError: The folder is missing, unreadable, or holds no images in class folders.
    """
    root = Path(spec)
    _check_root(root, spec)
    folders = _split_folders(root, spec, test_split)
    classes = sorted({name for folder in folders.values() for name in _subfolders(folder)})
    if not classes:
        raise DataError(_no_classes(spec, folders))
    found: list[tuple[str, int, str]] = []
    for split, folder in folders.items():
        _warn_of_loose_images(folder)
        prefix = f"{folder.name}/" if split else ""
        for name in _subfolders(folder):
            label = classes.index(name)
            found += [(image, label, split) for image in walk_images(folder / name, f"{prefix}{name}")]
    if not found:
        raise DataError(f"{spec}: there is no image in its class folders ({list_some(classes, 3)}); known endings: {_endings()}.")
    found.sort()
    ids, labels, splits = zip(*found, strict=True)
    listing = Listing(ids, np.array(labels, dtype=np.int64), tuple(classes), None if splits[0] == "" else splits)
    return FolderSource(spec, root, listing)


def is_image(name: str) -> bool:
    """Whether a file name has the ending of an image and is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def walk_images(folder: Path, prefix: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Ids of the images in a folder and all folders below it, links followed; a link to a folder above is not entered again.

    Raises:
        DataError: A folder cannot be read, or a name is not valid UTF-8.
    """
    above = (*above, os.path.realpath(folder))
    for entry in _entries(folder):
        image = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            if _is_visible(entry) and os.path.realpath(entry.path) not in above:
                yield from walk_images(Path(entry.path), image, above)
        # A link that leads nowhere is kept, so that reading it names it as unreadable; a pipe or socket is no image.
        elif is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield _checked(image)


def _check_root(root: Path, spec: str) -> None:
    if not root.exists():
        raise DataError(
            f"{spec}: there is no such folder; expected a folder of images (CLASS/… or train|val|test/CLASS/…), a .csv or .jsonl table, "
            "torchvision:NAME, hf:FOLDER, wds:PATTERN or demo:digits."
        )
    if not root.is_dir():
        raise DataError(
            f"{spec}: this is a file; expected a folder of images, or a table that ends in .csv or .jsonl. Unpack an archive first, and "
            "name the folder it gives."
        )


def _split_folders(root: Path, spec: str, test_split: str | None) -> dict[str, Path]:
    """The folders to look for classes in, by split; one without a name where there are no split folders."""
    present = _subfolders(root)
    splits: dict[str, Path] = {}
    for name in present:
        split = SPLIT_FOLDERS.get(name.lower(), name if name == test_split else None)
        if split in splits:
            raise DataError(f"{spec}: both {splits[split].name!r} and {name!r} mean the split {split!r}; keep one of them.")
        if split:
            splits[split] = root / name
    # A class may be called 'train': it is a split where class folders are in it, or where there is nothing but splits.
    if not splits or not (len(splits) == len(present) or ("train" in splits and _subfolders(splits["train"]))):
        return {"": root}
    if "train" not in splits:
        raise DataError(f"{spec}: there is no folder 'train' beside {list_some([folder.name for folder in splits.values()])}.")
    ignored = sorted(set(present) - {folder.name for folder in splits.values()})
    if ignored:
        log.info("%s: ignored the folders %s beside the splits", spec, list_some(ignored))
    return splits


def _no_classes(spec: str, folders: dict[str, Path]) -> str:
    loose = next((entry for folder in folders.values() for entry in _entries(folder) if is_image(entry.name)), None)
    if loose is None:
        return f"{spec}: there are no images; expected CLASS/… or train|val|test/CLASS/… with files such as {_endings()}."
    tables = [Path(spec, entry.name) for entry in _entries(Path(spec)) if entry.name.lower().endswith((".csv", ".jsonl"))]
    advice = f"give the table {tables[0]} if it names them" if tables else "move the images of each class into a folder of its name"
    return f"{spec}: there are images such as {loose.name!r} but no class folders; {advice}."


def _warn_of_loose_images(folder: Path) -> None:
    loose = sum(is_image(entry.name) for entry in _entries(folder) if not entry.is_dir())
    if loose:
        log.warning("%s: ignored %d images that lie beside the class folders, not in them", folder, loose)


def _subfolders(folder: Path) -> list[str]:
    return [_checked(entry.name) for entry in _entries(folder) if entry.is_dir() and _is_visible(entry)]


def _is_visible(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.name not in _ARCHIVE_LEFTOVERS


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        raise DataError(f"{folder}: no permission to read this folder.") from None
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be read ({error.strerror or error}).") from None


def _checked(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{os.fsencode(name)!r}: this file name is not valid UTF-8; rename the file.") from None
    return name


def _endings() -> str:
    return ", ".join(sorted(IMAGE_EXTENSIONS))
