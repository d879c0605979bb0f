"""Files behind paths and URLs such as ``s3://bucket/name``: what there is, how large it is, and any part of it (fsspec)."""

from __future__ import annotations

import errno
import functools
import io
import os
from typing import Any, BinaryIO, NamedTuple

from holdfast.errors import DataError, DependencyError

__all__ = ["FileStat", "find", "is_local", "locate", "open_part", "open_url", "reason", "stat"]

_STAMPS = ("mtime", "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "created")
"""What file systems tell of the content of a file, the best first."""


_SHORTER = "the file it is in has become shorter since it was listed"


class FileStat(NamedTuple):
    """Bytes of a file, and a text that changes when it is written anew; empty where its file system tells nothing."""

    size: int
    stamp: str


def locate(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and what that calls it.

    Raises:
        DependencyError: The package that reads such URLs is not installed.
        DataError: There is no such kind of URL.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise DependencyError(f"{url}: a package for this kind of URL is missing ({str(error).rstrip('.')}).") from None
    except ValueError as error:
        raise DataError(f"{url}: this kind of URL cannot be read ({str(error).rstrip('.').lower()}).") from None


def is_local(url: str) -> bool:
    """Whether this is a path of this machine, not a URL.

    Example:
        >>> is_local("/data/train.tar"), is_local("s3://bucket/train.tar")
        (True, False)
    """
    return "://" not in url and "::" not in url


def find(url: str) -> list[str]:
    """The files that a path or URL stands for, sorted.

    With ``*``, ``?`` or ``[…]`` those that fit; of a folder the tar archives in it and in its folders; else itself, whether it exists or
    not.

    Raises:
        DataError: A folder cannot be listed.
    """
    system, path = locate(url)
    try:
        if any(mark in path for mark in "*?["):
            found = system.glob(path)
        elif not url.endswith(".tar") and system.isdir(path):
            found = [*system.glob(f"{path.rstrip('/')}/*.tar"), *system.glob(f"{path.rstrip('/')}/*/*.tar")]
        else:
            return [url]
    except OSError as error:
        raise DataError(f"{url}: this cannot be listed ({reason(error)}).") from None
    return sorted(str(name) if is_local(url) else system.unstrip_protocol(name) for name in found)


def stat(url: str) -> FileStat:
    """Size and stamp of a file.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be asked.
    """
    system, path = locate(url)
    info = system.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if info.get("size") is None:
        raise OSError(errno.EIO, "the server does not tell its size")
    return FileStat(int(info["size"]), next((str(info[name]) for name in _STAMPS if info.get(name)), ""))


def open_url(url: str) -> BinaryIO:
    """A file to read in, at any place."""
    if is_local(url):
        return open(url, "rb")
    system, path = locate(url)
    opened: BinaryIO = system.open(path, "rb")
    return opened


def open_part(url: str, start: int, size: int) -> BinaryIO:
    """``size`` bytes of a file from ``start`` on as a file of its own; those of a URL are read at once, in one request.

    Raises:
        OSError: The file cannot be read, or has fewer bytes.
    """
    if is_local(url):
        return io.BufferedReader(_Part(url, start, size))
    system, path = _located_in(os.getpid(), url)
    data: bytes = system.cat_file(path, start=start, end=start + size)
    if len(data) < size:
        raise OSError(errno.EIO, _SHORTER)
    return io.BytesIO(data)


class _Part(io.RawIOBase):
    """A part of a file, of which only what is asked for is read."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = io.FileIO(path)
        self._start = start
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._place)]
        self._file.seek(self._start + self._place)
        count = self._file.readinto(view) or 0
        if len(view) and not count:
            raise OSError(errno.EIO, _SHORTER)
        self._place += count
        return count

    def readall(self) -> bytes:
        data = bytearray(max(0, self._size - self._place))
        done = 0
        while done < len(data):
            done += self.readinto(memoryview(data)[done:])
        return bytes(data)

    def close(self) -> None:
        self._file.close()
        super().close()


@functools.lru_cache(maxsize=100_000)
def _located_in(process: int, url: str) -> tuple[Any, str]:
    """As :func:`locate`; each process has connections of its own."""
    return locate(url)


def reason(error: OSError) -> str:
    """Why a file cannot be read, in words."""
    return (error.strerror or str(error) or type(error).__name__).lower()
