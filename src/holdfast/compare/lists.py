"""Lists as users write them: names, seeds and shares, from text, YAML or Python. Each mistake is one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["named_list", "number_of", "seed_list", "share_list"]

LARGEST_SEED = 2**32 - 1
MOST_SEEDS = 10_000
"""More of them are a mistake: somebody means the one seed 20250101."""


def named_list(value: Any, spelled: str, *, divided: bool = True) -> tuple[str, ...]:
    """Names, from a text divided by commas or a list.

    Args:
        value: What was given.
        spelled: How the user calls it.
        divided: Whether commas in a text divide it; a path may hold some.

    Raises:
        ConfigError: There are none, or one stands there twice.
    """
    entries = [part.strip() for part in value.split(",")] if isinstance(value, str) and divided else value
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str) and entry for entry in entries):
        raise ConfigError(f"{spelled}: expected names divided by commas, got {value!r}.")
    if not entries:
        raise ConfigError(f"{spelled}: none is given, which makes a comparison of zero runs.")
    _refuse_twice(entries, spelled)
    return tuple(entries)


def seed_list(value: Any, spelled: str) -> tuple[int, ...]:
    """Seeds: a number counts them from 0, a list names them; ``7,`` is the list of one.

    Raises:
        ConfigError: There are none, one stands there twice, or it is no seed.

    Example:
        >>> seed_list("3", "--seeds"), seed_list("3,", "--seeds"), seed_list([4, 2], "seeds")
        ((0, 1, 2), (3,), (4, 2))
    """
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        listed = [_whole(part, spelled, value) for part in parts if part] if "," in value else _whole(value, spelled, value)
    else:
        several = isinstance(value, list | tuple | range)
        listed = [_whole(part, spelled, value) for part in value] if several else _whole(value, spelled, value)
    if listed in (0, []):
        raise ConfigError(f"{spelled} {_shown(value)}: that makes a comparison of zero runs; give at least one seed.")
    if isinstance(listed, int) and listed > MOST_SEEDS:
        raise ConfigError(
            f"{spelled} {listed}: this counts seeds, and {MOST_SEEDS} are the most; the one seed is written {listed}, with comma."
        )
    seeds = range(listed) if isinstance(listed, int) else listed
    _refuse_twice(seeds, f"{spelled} {_shown(value)}")
    return tuple(seeds)


def share_list(value: Any, spelled: str) -> tuple[float | None, ...]:
    """Shares of the training split; 1 is all of it, and so None.

    Raises:
        ConfigError: There are none, one stands there twice, or it is no share.

    Example:
        >>> share_list("0.25,1", "--fractions")
        (0.25, None)
    """
    entries = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    entries = [entries] if isinstance(entries, int | float) else entries
    if not isinstance(entries, list | tuple):
        raise ConfigError(f"{spelled}: expected shares such as 0.25,0.5, got {value!r}.")
    if not entries:
        raise ConfigError(f"{spelled} {_shown(value)}: that makes a comparison of zero runs; give a share such as 0.5, or leave it out.")
    shares = [_share(entry, spelled) for entry in entries]
    _refuse_twice(shares, f"{spelled} {_shown(value)}")
    return tuple(None if share == 1 else share for share in shares)


def number_of(value: Any, spelled: str) -> int:
    """A whole number of at least 1.

    Raises:
        ConfigError: It is another.
    """
    number = _whole(value, spelled, value)
    if number < 1:
        raise ConfigError(f"{spelled}: expected a whole number of at least 1, got {value!r}.")
    return number


def _whole(value: Any, spelled: str, given: Any) -> int:
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value) or not 0 <= number <= LARGEST_SEED:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{spelled}: expected a whole number of at least 0, or several as 0,1,2, got {given!r}.") from None
    return number


def _share(value: Any, spelled: str) -> float:
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise ConfigError(f"{spelled}: expected shares above 0 and at most 1, such as 0.25, got {value!r}.")
    return share


def _refuse_twice(entries: Sequence[Any], spelled: str) -> None:
    twice = next((entry for position, entry in enumerate(entries) if entry in entries[:position]), None)
    if twice is not None:
        shown = repr(twice) if isinstance(twice, str) else f"{twice:g}"
        raise ConfigError(f"{spelled}: {shown} stands there twice; every run is made once, so leave one of them out.")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
