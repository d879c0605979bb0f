"""``torchvision:NAME@FOLDER``: datasets of torchvision that lie on disk, read through its own classes; nothing is downloaded."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from holdfast.data.folder import FolderSource
from holdfast.data.source import DataSource, Listing
from holdfast.errors import DataError, suggest

__all__ = ["DEFAULT_FOLDER", "TORCHVISION_SETS", "ArraySource", "read_torchvision"]

log = logging.getLogger("holdfast")

DEFAULT_FOLDER = "data"
"""Where to look when the name is all that is given."""


@dataclass(frozen=True)
class TorchvisionSet:
    """How torchvision reads one dataset.

    Args:
        target: Name of the class in ``torchvision.datasets``.
        place: What it reads below its root.
        splits: Arguments of the class for each of our splits.
        download: Whether torchvision can download it.
    """

    target: str
    place: str
    splits: Mapping[str, Mapping[str, Any]]
    download: bool = True


def _named(**names: str) -> dict[str, dict[str, Any]]:
    return {ours: {"split": theirs} for ours, theirs in names.items()}


_TRAIN_OR_NOT: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_THREE = _named(train="train", val="val", test="test")
_TWO = _named(train="train", test="test")

TORCHVISION_SETS = {
    "cifar10": TorchvisionSet("CIFAR10", "cifar-10-batches-py", _TRAIN_OR_NOT),
    "cifar100": TorchvisionSet("CIFAR100", "cifar-100-python", _TRAIN_OR_NOT),
    "dtd": TorchvisionSet("DTD", "dtd/dtd", _THREE),
    "fgvc-aircraft": TorchvisionSet("FGVCAircraft", "fgvc-aircraft-2013b", _THREE),
    "flowers102": TorchvisionSet("Flowers102", "flowers-102", _THREE),
    "food101": TorchvisionSet("Food101", "food-101", _TWO),
    "oxford-iiit-pet": TorchvisionSet("OxfordIIITPet", "oxford-iiit-pet", _named(train="trainval", test="test")),
    "stanford-cars": TorchvisionSet("StanfordCars", "stanford_cars", _TWO, download=False),
}
"""By the name after ``torchvision:``. Validation splits stay what they are; DTD is read in its first partition, aircraft by variant."""


@dataclass(frozen=True)
class ArraySource:
    """Images held as arrays, each served as a PPM file, so that they take the same way as image files on disk.

    PPM holds the plain values; the bytes of a PNG, and the data fingerprint with them, would depend on who compressed it.

    Args:
        spec: The dataset as the user named it.
        root: The folder that it was read from.
        listing: What there is; ids are ``SPLIT/ROW``.
        pixels: Images (N, H, W, 3), uint8, by split.
    """

    spec: str
    root: Path
    listing: Listing
    pixels: Mapping[str, npt.NDArray[np.uint8]]

    def open(self, image: str) -> BinaryIO:
        """The PPM file of ``SPLIT/ROW``."""
        split, row = image.split("/")
        pixels = self.pixels[split][int(row)]
        height, width, _ = pixels.shape
        return io.BytesIO(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes())

    def size(self, image: str) -> int:
        """Bytes of the pixels."""
        return int(self.pixels[image.split("/")[0]][0].nbytes)


def read_torchvision(spec: str) -> DataSource:
    """List the images of a dataset of torchvision that lies on disk.

    Args:
        spec: ``torchvision:NAME@FOLDER``, or ``torchvision:NAME`` for the folder ``data``. The folder is what torchvision calls root.

    Raises:
        DataError: The name is unknown, or the files are missing or damaged.
    """
    name, _, folder = spec.removeprefix("torchvision:").partition("@")
    known = TORCHVISION_SETS.get(name.lower())
    if known is None:
        raise DataError(f"{spec}: unknown dataset {name!r}. {suggest(name, TORCHVISION_SETS)}")
    root = Path(folder or DEFAULT_FOLDER)
    if not (root / known.place).exists():
        raise DataError(_how_to_get(spec, name, known, root))
    parts = {split: _open_part(spec, known, root, arguments) for split, arguments in known.splits.items()}
    if hasattr(parts["train"], "data"):
        return _array_source(spec, root, parts)
    return _file_source(spec, root, parts)


def _open_part(spec: str, known: TorchvisionSet, root: Path, arguments: Mapping[str, Any]) -> Any:
    import torchvision

    try:
        return getattr(torchvision.datasets, known.target)(str(root), download=False, **arguments)
    except Exception as error:  # its classes raise whatever damaged files lead to
        # Its own words for a wrong checksum advise a download.
        reason = "" if isinstance(error, RuntimeError) else f" ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        raise DataError(
            f"{spec}: the files in {str(root / known.place)!r} are incomplete or damaged{reason}; unpack the archive again."
        ) from None


def _how_to_get(spec: str, name: str, known: TorchvisionSet, root: Path) -> str:
    if known.download:
        code = f"from torchvision.datasets import {known.target}; {known.target}({str(root)!r}, download=True)"
        way = f'type python -c "{code}"'
    else:
        way = f"torchvision cannot download it either: get it from its authors, and lay it out as torchvision.datasets.{known.target} says"
    return (
        f"{spec}: there is no {known.place!r} in the folder {str(root)!r}, and holdfast downloads no datasets; {way}, or name the folder "
        f"that holds it: torchvision:{name}@FOLDER."
    )


def _file_source(spec: str, root: Path, parts: Mapping[str, Any]) -> FolderSource:
    ids: list[str] = []
    names: list[str] = []
    given: list[str] = []
    for split, part in parts.items():
        for file, label in _files_and_labels(part):
            ids.append(Path(file).relative_to(root).as_posix())
            names.append(part.classes[label])
            given.append(split)
    classes = [name for part in parts.values() for name in part.classes]
    return FolderSource(spec, root, Listing.of(ids, names, classes=classes, given=given))


def _files_and_labels(part: Any) -> Iterable[tuple[str | Path, int]]:
    if hasattr(part, "loader"):
        part.loader = lambda file: file  # an item is then the file itself
        return (part[row] for row in range(len(part)))
    return zip(part._images, part._labels, strict=True)  # the pets have no loader


def _array_source(spec: str, root: Path, parts: Mapping[str, Any]) -> ArraySource:
    rows = [(f"{split}/{row:06d}", part.classes[label], split) for split, part in parts.items() for row, label in enumerate(part.targets)]
    ids, names, given = zip(*rows, strict=True)
    pixels = {split: np.asarray(part.data, dtype=np.uint8) for split, part in parts.items()}
    return ArraySource(spec, root, Listing.of(ids, names, classes=parts["train"].classes, given=given), pixels)
