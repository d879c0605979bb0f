"""From a path as somebody wrote it into a table to the file it means."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from pathlib import Path

__all__ = ["Locator", "composed"]


def composed(text: str) -> str:
    """The text in the Unicode form in which each accented letter is one character (NFC)."""
    return unicodedata.normalize("NFC", text)


class Locator:
    """Finds files below a folder, or beside it.

    Args:
        folder: What relative paths are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.abspath(folder)
        self._real_folder = os.path.realpath(folder)
        self._parents: dict[str, str] = {}
        self._listings: dict[str, dict[str, str]] = {}

    def locate(self, spelled: str) -> tuple[str, str]:
        r"""The id and the file of an image.

        The id is the path relative to the folder, with ``/`` between its parts, without ``.`` or doubled slashes. A path that leads
        nowhere as it stands is tried with ``/`` for ``\``, and with accents written in the other Unicode form, as other systems do.

        Args:
            spelled: A path, relative or absolute.
        """
        for candidate in dict.fromkeys((spelled, spelled.replace("\\", "/"))):
            relative = self._relative(candidate)
            file = os.path.join(self._folder, relative)
            if os.path.lexists(file):
                return relative, file
        return relative, self._in_other_form(relative) or file

    def _relative(self, path: str) -> str:
        plain = posixpath.normpath(path)
        if not plain.startswith(("/", "../")):
            return plain
        parent, name = posixpath.split(plain)
        if parent not in self._parents:  # the same for many images, and slow to compute
            self._parents[parent] = self._relative_parent(parent)
        return posixpath.normpath(posixpath.join(self._parents[parent], name))

    def _relative_parent(self, parent: str) -> str:
        absolute = posixpath.normpath(posixpath.join(self._folder, parent))  # which may lead back into the folder
        real = posixpath.relpath(absolute, self._real_folder)  # the folder may have been reached through a link
        return posixpath.relpath(absolute, self._folder) if real.split("/")[0] == ".." else real

    def _in_other_form(self, relative: str) -> str | None:
        if relative.isascii():
            return None
        file = self._folder
        for part in relative.split("/"):
            name = part if os.path.lexists(os.path.join(file, part)) else self._names_in(file).get(composed(part))
            if name is None:
                return None
            file = os.path.join(file, name)
        return file

    def _names_in(self, folder: str) -> dict[str, str]:
        """What is in a folder, by its composed name."""
        if folder not in self._listings:
            try:
                self._listings[folder] = {composed(name): name for name in os.listdir(folder)}
            except OSError:
                self._listings[folder] = {}
        return self._listings[folder]
