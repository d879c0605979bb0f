"""Values out of files that others wrote: what is missing or of another kind is None, never an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Estimate", "at", "entries", "number", "numbers", "plain_text", "whole"]

_CONFIDENCE = 1.959964


def at(values: Any, *keys: str) -> Any:
    """What stands below nested keys, None where a key is missing.

    Example:
        >>> at({"test": {"n": 3}}, "test", "n"), at({"test": None}, "test", "n")
        (3, None)
    """
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def number(value: Any) -> float | None:
    """A finite number.

    Example:
        >>> number(2), number(float("nan")), number("2"), number(True)
        (2.0, None, None, None)
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """A finite number without decimals."""
    found = number(value)
    return None if found is None else round(found)


def numbers(values: Any) -> list[float | None]:
    """A list of numbers, None at the place of what is none; empty for anything else."""
    return [number(value) for value in values] if isinstance(values, list) else []


def entries(values: Any) -> list[Mapping[str, Any]]:
    """The dicts of a list; empty for anything else."""
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def plain_text(value: Any) -> str:
    """A value as the text a reader sees, empty for None."""
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Estimate:
    """An estimated number: ``stderr`` is None where it is not known, ``met`` says whether the number is as exact as was asked."""

    value: float | None
    stderr: float | None = 0.0
    met: bool = True

    @classmethod
    def of(cls, entry: Any) -> Estimate:
        """From a number, which is exact, or from ``{"value": …, "stderr": …, "met": …}``."""
        if not isinstance(entry, Mapping):
            return cls(number(entry))
        return cls(number(entry.get("value")), number(entry.get("stderr")), entry.get("met") is not False)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval: 1.96 standard errors; None where the error is not known."""
        return None if self.stderr is None else _CONFIDENCE * self.stderr

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.value is not None
