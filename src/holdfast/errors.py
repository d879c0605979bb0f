"""The exceptions of holdfast, and the suggestion that goes with a mistyped name.

Every error is also a builtin one, so ``except ValueError`` in a user's code keeps working. The message names the thing as the
user typed it, shows the value, says what was expected and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DependencyError",
    "HoldfastError",
    "Interrupted",
    "ModelError",
    "NonDeterministicError",
    "NonFiniteError",
    "RunError",
    "ShapeError",
    "describe",
    "suggest",
]


class HoldfastError(Exception):
    """Base of all errors raised on purpose; ``exit_status`` is what the command line returns for it."""

    exit_status = 2


class ConfigError(HoldfastError, ValueError):
    """An option, a key or a name is wrong or does not fit the others."""


class DataError(HoldfastError, ValueError):
    """The dataset cannot be used as it is."""


class ModelError(HoldfastError, ValueError):
    """The network cannot be built, or has no head that holdfast can use."""


class ShapeError(HoldfastError, ValueError):
    """A tensor has another shape, type or range than a formula is defined for."""


class CheckpointError(HoldfastError, RuntimeError):
    """A weights file or checkpoint is damaged, unsafe, or belongs to something else."""


class RunError(HoldfastError, OSError):
    """A run directory cannot be read or written."""


class DependencyError(HoldfastError, ImportError):
    """An optional package is missing; the message names the extra that brings it."""


class NonDeterministicError(HoldfastError, RuntimeError):
    """Two passes over the same data, or two equal computations, give different numbers."""


class NonFiniteError(HoldfastError, ArithmeticError):
    """Training produced NaN or infinity."""

    exit_status = 1


class Interrupted(HoldfastError, RuntimeError):
    """Training was asked to stop; a checkpoint has been written."""

    exit_status = 1


def describe(error: BaseException) -> str:
    r"""An error raised by code of the user's, as the tail of a sentence: its kind, but for our own, and what it says.

    Example:
        >>> describe(ValueError("bad\nnews.")), describe(ConfigError("lr: too large"))
        ('ValueError: bad news', 'lr: too large')
    """
    kind = "" if isinstance(error, HoldfastError) else type(error).__name__
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split()).rstrip(".")
    return ": ".join(filter(None, (kind, text)))


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of an "unknown name" message: the nearest known name, then all of them.

    Example:
        >>> suggest("adrand", ["adarand", "bss"])
        "Did you mean 'adarand'? Known: adarand, bss."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(names)}."
