"""Patterns with braces, as shells and WebDataset write them: ``shard-{000..012}.tar``, ``{train,val}-0.tar``."""

from __future__ import annotations

import re

from holdfast.errors import DataError

__all__ = ["expand_braces"]

_MOST_NAMES = 1_000_000


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern stands for, in order, each once. Braces hold a list or a range of numbers, or further braces.

    Raises:
        DataError: The braces do not fit, or hold something else; the message is the bare reason.

    Example:
        >>> expand_braces("{train-{08..10},val}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val.tar']
    """
    start = pattern.find("{")
    if start < 0:
        if "}" in pattern:
            raise DataError("a brace is closed that was not opened")
        return [pattern]
    end, options = _options(pattern, start)
    if len(options) == 1 and _range(options[0]) is None:
        raise DataError(f"{pattern[start : end + 1]} is neither a range such as {{000..012}} nor a list such as {{train,val}}")
    heads = [name for option in options for name in (_range(option) or expand_braces(option))]
    tails = expand_braces(pattern[end + 1 :])
    if len(heads) * len(tails) > _MOST_NAMES:
        raise DataError(f"it stands for more than {_MOST_NAMES} names")
    return list(dict.fromkeys(pattern[:start] + head + tail for head in heads for tail in tails))


def _options(pattern: str, start: int) -> tuple[int, list[str]]:
    """Where the brace that opens at ``start`` is closed, and what its own commas divide."""
    depth, options = 0, [""]
    for place in range(start, len(pattern)):
        mark = pattern[place]
        depth += (mark == "{") - (mark == "}")
        if depth == 0:
            return place, options
        if mark == "," and depth == 1:
            options.append("")
        elif place > start:
            options[-1] += mark
    raise DataError("a brace is not closed")


def _range(option: str) -> list[str] | None:
    """The numbers of ``000..012``, as wide as they are written; None where it is no range."""
    found = re.fullmatch(r"(\d+)\.\.(\d+)", option)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise DataError(f"the range {option} ends before it begins")
    if last - first >= _MOST_NAMES:
        raise DataError(f"the range {option} has more than {_MOST_NAMES} numbers")
    padded = found[1] if found[1].startswith("0") else found[2]
    width = len(padded) if padded.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
