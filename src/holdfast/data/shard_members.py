"""One pass over the headers of a tar archive in the form of WebDataset: where each example lies, and its label.

Members are grouped by their name up to the first dot of its last part; what follows is their kind: an image ending, ``txt``, ``cls``,
``json`` or something that is ignored. The data of images is skipped, not read.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from holdfast.data.folder import IMAGE_EXTENSIONS
from holdfast.errors import DataError

__all__ = ["ShardIndex", "index_tar"]

_BLOCK = tarfile.BLOCKSIZE
_BEYOND_THE_END = 64 * 1024


@dataclass(frozen=True)
class ShardIndex:
    """The examples of a shard in the order they are stored, as columns (N).

    Args:
        unit: What they are: ``image`` or ``text``.
        keys: Name of each within the shard.
        offsets: Where the image or text begins in the file.
        sizes: Bytes of it.
        labels: Class of each: a name, or a number as text.
    """

    unit: str
    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    labels: tuple[str, ...]


def index_tar(file: BinaryIO) -> ShardIndex:
    """The examples in a tar archive.

    Args:
        file: The archive, opened for reading in any place.

    Raises:
        DataError: It is damaged, or its examples are not complete; the message is the bare reason.
        OSError: It cannot be read.
    """
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in _members(file):
        key, kind = _key_and_kind(member.name)
        if not kind:
            continue
        parts = groups.setdefault(key, {})
        if kind in parts:
            raise DataError(f"{key!r} has two members .{kind}; examples need names of their own")
        parts[kind] = member
    examples = [example for key, parts in groups.items() if (example := _example(file, key, parts)) is not None]
    if not examples:
        raise DataError("it holds no example; expected members such as 000000.jpg and 000000.cls")
    units, keys, members, labels = zip(*examples, strict=True)
    if len(set(units)) > 1:
        raise DataError(f"{keys[units.index('text')]!r} is a text and {keys[units.index('image')]!r} an image; keep one kind")
    return ShardIndex(units[0], keys, tuple(m.offset_data for m in members), tuple(m.size for m in members), labels)


# -------------------------------------------------------------------------------------------------------------------- archive


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """All members but folders, in order.

    Raises:
        DataError: The archive is damaged or cut off. That is certain only at its end, which says so itself.
    """
    if file.read(2) == b"\x1f\x8b":
        raise DataError("it is compressed by gzip; unpack it to .tar")
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.islnk() or member.issym():
                    raise DataError(f"{member.name!r} is a link; write the archive with tar --dereference --hard-dereference")
                if member.isreg():
                    yield member
            end = archive.offset
    except tarfile.TarError as error:
        raise DataError(f"it is no tar archive, or is damaged or cut off ({error})") from None
    _check_end(file, end)


def _check_end(file: BinaryIO, end: int) -> None:
    """Refuse what tarfile takes for the end of an archive without a word: a damaged header, or nothing."""
    file.seek(end)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise DataError(f"it is cut off: after {end} bytes it stops without the mark that ends an archive")
    if block.strip(b"\0"):
        raise DataError(f"it is damaged: byte {end} should begin a member, and does not")
    if file.read(_BEYOND_THE_END).strip(b"\0"):
        raise DataError("there is more after its end; archives are joined by tar --concatenate, not by cat")


def _key_and_kind(name: str) -> tuple[str, str]:
    """What an example is called, and what the member is of it; no kind for hidden files and names without a dot."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, _, kind = base.partition(".")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name.encode(errors='surrogateescape')!r}: this name is not valid UTF-8") from None
    return folder + slash + stem, kind.lower() if stem else ""


# ------------------------------------------------------------------------------------------------------------------- examples


def _example(file: BinaryIO, key: str, parts: Mapping[str, tarfile.TarInfo]) -> tuple[str, str, tarfile.TarInfo, str] | None:
    """Unit, key, content and label of an example; None where its members are neither content nor label."""
    images = [kind for kind in parts if f".{kind}" in IMAGE_EXTENSIONS]
    labels = _labels(file, key, parts)
    if len(images) > 1:
        raise DataError(f"{key!r} has two images, .{images[0]} and .{images[1]}; keep one")
    if not images and "txt" not in parts:
        if labels:
            raise DataError(f"{key!r} has a label, but neither an image nor a text (.jpg, .png, .webp, .txt)")
        return None
    if not labels:
        raise DataError(f"{key!r} has no label; expected a member {key}.cls, or {key}.json with a field label")
    if len(set(labels.values())) > 1:
        said = " and ".join(f"{label!r} in .{kind}" for kind, label in labels.items())
        raise DataError(f"{key!r} has two labels, {said}; keep one")
    content = parts[images[0]] if images else parts["txt"]
    if not images:
        _decoded(_read(file, content), f"{key}.txt")
    return "image" if images else "text", key, content, next(iter(labels.values()))


def _labels(file: BinaryIO, key: str, parts: Mapping[str, tarfile.TarInfo]) -> dict[str, str]:
    """What each member that may tell the class says of it."""
    labels = {}
    if "cls" in parts:
        labels["cls"] = _decoded(_read(file, parts["cls"]), f"{key}.cls").strip()
    if "json" in parts:
        said = _json_label(_decoded(_read(file, parts["json"]), f"{key}.json"), f"{key}.json")
        labels |= {} if said is None else {"json": said}
    empty = next((kind for kind, label in labels.items() if not label), None)
    if empty is not None:
        raise DataError(f"the label in {key}.{empty} is empty")
    return labels


def _json_label(text: str, name: str) -> str | None:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{name} is no JSON") from None
    label = value.get("label") if isinstance(value, dict) else None
    if isinstance(label, bool | float | list | dict):
        raise DataError(f"the label in {name} is {json.dumps(label)[:40]}; expected a name or a whole number")
    return None if label is None else str(label).strip()


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{name} is no text in UTF-8") from None
