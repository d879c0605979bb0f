"""Which functions and classes a pickle would call when it is loaded, found by reading its instructions without following them."""

from __future__ import annotations

import contextlib
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["calls_in_pickle"]

TENSORS = re.compile(
    r"collections\.OrderedDict|argparse\.Namespace|torch\._(utils|tensor)\.\w+|torch\.(storage\.)?\w*Storage|torch\.nn\.parameter\.\w+"
    r"|torch\.(Tensor|Size|device|\w+\d\w*)"
)
"""What every pickle of tensors calls."""


def calls_in_pickle(path: Path) -> list[str]:
    """Names such as ``posix.system`` that a torch file or bare pickle refers to, apart from those of tensors; empty for other files."""
    names: list[str] = []
    # What cannot be read as pickle instructions, or ends in the middle, is not loaded either.
    with contextlib.suppress(Exception):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if entry.endswith(".pkl"):
                        with archive.open(entry) as stream:
                            names.extend(_names(stream))
        else:
            with path.open("rb") as stream:
                for _ in range(4):  # torch's older format is four pickles, then the bytes of the tensors
                    names.extend(_names(stream))
    return [name for name in dict.fromkeys(names) if not TENSORS.fullmatch(name)]


def _names(stream: IO[bytes]) -> Iterator[str]:
    """Names in one pickle, in the order of its instructions."""
    texts = ["?", "?"]
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif instruction.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
