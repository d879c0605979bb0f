"""The names of classes in a file beside shards, whose labels may then be numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.data.file_systems import open_url
from holdfast.data.folder import SPLIT_FOLDERS
from holdfast.data.source import list_some
from holdfast.errors import DataError

__all__ = ["ClassNames", "read_class_names"]

_FILES = ("classes.txt", "classes.json")


@dataclass(frozen=True)
class ClassNames:
    """What a file declares: its ``url``, and the name of the class behind each number, as text."""

    url: str
    by_number: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All classes."""
        return tuple(self.by_number.values())

    def named(self, spec: str, labels: Sequence[str], places: Sequence[str]) -> list[str]:
        """The names (N) behind labels, each a number or a name; what is both is a number.

        Raises:
            DataError: A label is neither; the message names its place.
        """
        by_label = {**{name: name for name in self.names}, **self.by_number}
        unknown = next(((label, place) for label, place in zip(labels, places, strict=True) if label not in by_label), None)
        if unknown is not None:
            label, place = unknown
            raise DataError(f"{spec}: the label {label!r} in the shard {place!r} is no class of {self.url}: {list_some(self.names, 3)}.")
        return [by_label[label] for label in labels]


def read_class_names(spec: str, root: str) -> ClassNames | None:
    """What ``classes.txt`` or ``classes.json`` in the folder of the shards says, or above it where it is called after a split.

    Raises:
        DataError: There is such a file, but not in a form that is understood.
    """
    above, _, folder = root.rpartition("/")
    for place in (root, above) if folder.lower() in SPLIT_FOLDERS else (root,):
        for file in _FILES:
            url = f"{place}/{file}" if place else file
            try:
                with open_url(url) as opened:
                    text = opened.read().decode("utf-8-sig")
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError):
                raise DataError(f"{spec}: {url} cannot be read as text in UTF-8.") from None
            names = _json_names(spec, url, text) if file.endswith(".json") else _lines(text)
            _check(spec, url, tuple(names.values()))
            return ClassNames(url, names)
    return None


def _lines(text: str) -> dict[str, str]:
    return {str(number): line.strip() for number, line in enumerate(text.rstrip().splitlines())}


def _json_names(spec: str, url: str, text: str) -> dict[str, str]:
    """From a list of names, from names by number or from numbers by name."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {str(number): name.strip() for number, name in enumerate(value)}
    if isinstance(value, dict) and all(isinstance(name, str) for name in value.values()):
        return {number: name.strip() for number, name in value.items()}
    if isinstance(value, dict) and all(type(number) is int for number in value.values()):
        return {str(number): name.strip() for name, number in value.items()}
    raise DataError(f'{spec}: {url}: expected a list of names, or {{"0": "ant", …}}, or {{"ant": 0, …}}.')


def _check(spec: str, url: str, names: Sequence[str]) -> None:
    if not names or not all(names):
        raise DataError(f"{spec}: {url} names no class, or has one without a name; expected one name a line.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{spec}: {url} names the class {twice!r} twice.")
