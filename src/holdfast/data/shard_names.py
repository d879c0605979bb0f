"""From ``wds:PATTERN`` to the shards it names, and the splits that their names tell."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from holdfast.data.braces import expand_braces
from holdfast.data.file_systems import find, is_local
from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.source import list_some
from holdfast.errors import DataError

__all__ = ["Shard", "find_shards"]

_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".lz4")


class Shard(NamedTuple):
    """A tar archive of examples: where it is, what ids call it, and the split that its name tells, empty for none."""

    url: str
    name: str
    split: str


def find_shards(spec: str, *, test_split: str | None = None) -> tuple[str, list[Shard]]:
    """The folder that all shards of a pattern are in, and the shards, sorted.

    A shard belongs to the split that its folder is called after, or else a part of its name between ``-``, ``_`` and ``.``.

    Args:
        spec: ``wds:PATTERN`` or ``wds:FOLDER``.
        test_split: A further name that means a split.

    Raises:
        DataError: The pattern names no shards, or names only some of their splits.
    """
    urls = _urls(spec)
    packed = next((url for url in urls if url.lower().endswith(_COMPRESSED)), None)
    if packed is not None:
        raise DataError(f"{spec}: {packed!r} is compressed, which leaves no way into its middle; unpack it to .tar.")
    root = _common_folder(urls)
    shards = [Shard(url, _name(url, root), _split(url, test_split)) for url in urls]
    _check_splits(spec, shards)
    return root, shards


def _urls(spec: str) -> list[str]:
    try:
        patterns = expand_braces(spec.removeprefix("wds:"))
    except DataError as error:
        raise DataError(f"{spec}: {error}.") from None
    found = [(pattern, find(pattern)) for pattern in patterns]
    empty = next((pattern for pattern, urls in found if not urls), None)
    if empty is not None:
        raise DataError(f"{spec}: there is no shard {empty!r}; expected tar archives such as train-{{000..012}}.tar, or their folder.")
    return sorted({_absolute(url) for _, urls in found for url in urls})


def _absolute(url: str) -> str:
    return os.path.abspath(url) if is_local(url) else url


def _common_folder(urls: Sequence[str]) -> str:
    folders = [url.split("/")[:-1] for url in urls]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    return "/".join(parts[0] for parts in shared)


def _name(url: str, root: str) -> str:
    return url[len(root) :].lstrip("/").removesuffix(".tar")


def _split(url: str, test_split: str | None) -> str:
    folder, file = posixpath.split(url)
    for word in (posixpath.basename(folder), *re.split(r"[-_.]", file), posixpath.splitext(file)[0]):
        split = SPLIT_FOLDERS.get(word.lower(), word if word == test_split else None)
        if split is not None:
            return split
    return ""


def _check_splits(spec: str, shards: Sequence[Shard]) -> None:
    splits = {shard.split for shard in shards}
    if splits == {""}:
        return
    if "" in splits:
        lost = [shard.name for shard in shards if not shard.split]
        raise DataError(
            f"{spec}: some shards are named after a split and {len(lost)} are not ({list_some(lost, 3)}); give a pattern that leaves them "
            "out, or put train, val or test into their names."
        )
    if "train" not in splits:
        raise DataError(f"{spec}: there is no shard of the split 'train', only of {list_some(sorted(splits))}.")
