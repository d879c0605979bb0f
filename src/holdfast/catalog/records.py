"""What is known of a method or of a family of models or datasets without importing it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from holdfast.checks import numbers_by_pattern
from holdfast.errors import ConfigError

__all__ = ["Family", "Method", "Option", "weight_option"]

Kind = Literal["task loss", "regularizer", "model transform"]
Value = float | int | bool | str


@dataclass(frozen=True)
class Option:
    """One option of a method.

    Args:
        name: Name in Python and YAML; the command line takes the same after ``--method.``.
        type: ``float``, ``int``, ``bool`` or ``str``.
        default: Value when not given.
        help: What it does, with the symbol of the paper.
        choices: The allowed strings, where there are few.
        low: Smallest allowed number.
        high: Largest allowed number.
        source: Where the default comes from.
        word: For a ``str`` that is a number: the word that may stand in its place.
        by_pattern: Whether such a ``str`` may be several numbers by patterns on names, see :func:`holdfast.checks.numbers_by_pattern`.
        example: What an example of use gives, where the default only says that a value is missing.
    """

    name: str
    type: type
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    source: str = ""
    word: str = ""
    by_pattern: bool = False
    example: str = ""

    @property
    def shown(self) -> Value:
        """The value that an example of use gives."""
        return self.example or self.default

    def parse(self, value: object) -> Value:
        """The value as this option's type, from text or from YAML.

        Raises:
            ConfigError: The value does not fit; the message begins with what was expected.
        """
        parsed = self._convert(value)
        if parsed is None:
            raise ConfigError(f"expected {self.expected}, got {value!r}")
        return parsed

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.word:
            several = ", several by name as layer3=0.5,layer4=1," if self.by_pattern else ""
            least = f" of at least {self.low:g}" if math.isfinite(self.low) else ""
            return f"a number{least}{several} or {self.word}"
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}[self.type]
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{words} from {self.low:g} to {self.high:g}"
        return f"{words} of at least {self.low:g}" if math.isfinite(self.low) else words

    def _convert(self, value: object) -> Value | None:
        if self.type is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            return value if isinstance(value, bool) else words.get(str(value).lower())
        if self.word:
            return self._numbers(value)
        if self.type is str:
            return value if isinstance(value, str) and (not self.choices or value in self.choices) else None
        if isinstance(value, bool):
            return None
        try:
            number = float(value)  # type: ignore[arg-type]  # anything else is refused below
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number) or not self.low <= number <= self.high:
            return None
        if self.type is int:
            return int(number) if number.is_integer() else None
        return number

    def _numbers(self, value: object) -> str | None:
        """The text of a number, or of numbers by pattern, in the one form that is recorded."""
        if value == self.word:
            return self.word
        if isinstance(value, bool):
            return None
        try:
            numbers = numbers_by_pattern(str(value))
        except ValueError:
            return None
        if any(not self.low <= number <= self.high for number in numbers.values()):
            return None
        if "=" not in str(value):
            return f"{numbers['*']!r}".removesuffix(".0")
        written = ",".join(f"{pattern}={number!r}".removesuffix(".0") for pattern, number in numbers.items())
        return written if self.by_pattern else None


@dataclass(frozen=True)
class Method:
    """The record of one method.

    Args:
        name: What the user types.
        kind: Its place in an objective.
        target: ``module:Class``.
        summary: One line.
        objective: The objective in plain notation.
        options: Arguments of the class.
        weights: Multipliers of the returned scalars, owned by the objective: ``weight`` for the first or only one,
            ``k_weight`` for each further key ``k``.
        needs: What it asks for beyond a labelled batch, in words.
        cost: Time of a step relative to plain fine-tuning: the ratio and floor that ``benchmarks.overhead`` found for ResNet-18 at 64 px
            on two CPU threads, and what the time goes into.
        good_for: When to reach for it.
        caveats: Where it lost or what to watch.
        sources: Papers, and the releases that settled doubts.
        term: Name in logs, where that is not ``name``.
        package: The installed package that brings it; empty for holdfast's own and for those of a file.
    """

    name: str
    kind: Kind
    target: str
    summary: str
    objective: str = ""
    options: tuple[Option, ...] = ()
    weights: tuple[Option, ...] = ()
    needs: str = "nothing"
    cost: str = ""
    good_for: str = ""
    caveats: str = ""
    sources: tuple[str, ...] = ()
    term: str = ""
    package: str = ""

    @property
    def all_options(self) -> dict[str, Option]:
        """Weights and arguments by name, in the order they are documented."""
        return {option.name: option for option in (*self.weights, *self.options)}

    @property
    def term_name(self) -> str:
        """The name this method's values are logged under."""
        return self.term or self.name

    def load(self) -> type:
        """The class behind the record."""
        module, _, name = self.target.partition(":")
        loaded = getattr(importlib.import_module(module), name)
        if not isinstance(loaded, type):
            raise TypeError(f"{self.target} is not a class")
        return loaded


@dataclass(frozen=True)
class Family:
    """A kind of model or dataset that is named by a prefix.

    Args:
        prefix: What stands before the colon.
        summary: One line.
        example: What a user may type.
        members: One line for each name after the colon, where they are few.
        absent: Names that users expect among the members, and what to do instead.
        reads: What a kind of model reads: ``images`` or ``texts``.
    """

    prefix: str
    summary: str
    example: str
    members: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    reads: str = "images"


def weight_option(default: float, text: str, source: str, name: str = "weight") -> Option:
    """The option of a multiplier, at least 0."""
    return Option(name, float, default, text, low=0.0, source=source)
