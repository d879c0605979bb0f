"""Splitting a command line into options and words.

Not argparse, and not jsonargparse on top of it: both stop at the first wrong value with a message of their own, read
``--skip-bad DATA`` as a switch with a value, and cannot tell which option a user meant. Values stay text here; types and ranges are
the business of ``holdfast.config``, which knows them for YAML and Python too.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import ConfigError

__all__ = ["COMMON", "Argument", "Parsed", "parse"]

SWITCH_WORDS = ("true", "false", "yes", "no")


@dataclass(frozen=True)
class Argument:
    """An option of a verb.

    Args:
        flag: As it is typed, such as ``--val-fraction``.
        help: What it does.
        metavar: Stands for its value in the help; empty for a switch.
        default: The default in words, for the help.
        choices: The allowed words, for the help.
        repeat: Whether each use adds a value; otherwise the last one counts.
        negatable: Whether a switch has a ``--no-`` form and takes true or false.
    """

    flag: str
    help: str
    metavar: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    repeat: bool = False
    negatable: bool = False

    @property
    def key(self) -> str:
        """Name in Python."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def negated(self) -> str:
        """The form that switches off."""
        return f"--no-{self.flag.removeprefix('--')}"


COMMON = (
    Argument("--debug", "show the traceback of an error"),
    Argument("--help", "show this help"),
)


@dataclass
class Parsed:
    """What was typed: ``values`` by key, as text; ``words`` are the arguments without a dash."""

    values: dict[str, Any] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def add(self, argument: Argument, value: str) -> None:
        """Note the value of an option."""
        if argument.repeat:
            self.values.setdefault(argument.key, []).append(value)
        else:
            self.values[argument.key] = value

    def no_more_than(self, count: int, verb: str) -> None:
        """Refuse words beyond the first ``count``."""
        if len(self.words) > count:
            raise ConfigError(f"{verb}: unexpected argument {self.words[count]!r}; type 'holdfast {verb} --help' for what it takes.")


def parse(argv: Sequence[str], arguments: Iterable[Argument], *, free_prefix: str = "") -> Parsed:
    """Split a verb's arguments.

    Args:
        argv: Everything after the verb.
        arguments: The options of the verb.
        free_prefix: Options that begin so are taken as they come, each with a value; ``--method.`` for those of methods.

    Raises:
        ConfigError: An option is unknown, or its value is missing.
    """
    known = {argument.flag: argument for argument in arguments}
    negated = {argument.negated: argument for argument in known.values() if argument.negatable}
    parsed, rest = Parsed(), deque(argv)
    while rest:
        token = rest.popleft()
        flag, equals, attached = token.partition("=")
        if token == "--":
            parsed.words.extend(rest)
            break
        if not token.startswith("-") or token == "-":
            parsed.words.append(token)
        elif free_prefix and flag.startswith(free_prefix):
            parsed.values[flag.removeprefix("--")] = _value(flag, "VALUE", attached if equals else None, rest)
        elif flag in negated and not equals:
            parsed.add(negated[flag], "false")
        elif flag not in known:
            raise ConfigError(_unknown(flag, [*known, *negated]))
        elif known[flag].metavar:
            parsed.add(known[flag], _value(flag, known[flag].metavar, attached if equals else None, rest))
        else:
            parsed.add(known[flag], attached if equals else _switch_value(known[flag], rest))
    return parsed


def _value(flag: str, metavar: str, attached: str | None, rest: deque[str]) -> str:
    if attached is None:
        attached = rest.popleft() if rest and not rest[0].startswith("--") else ""
    if not attached:  # no option has an empty value; a shell variable that is not set looks like one
        raise ConfigError(f"{flag}: a value is missing; type {flag} {metavar}.")
    return attached


def _switch_value(argument: Argument, rest: deque[str]) -> str:
    """Only a word that can be nothing else belongs to a switch: in ``--skip-bad cars/`` the folder is DATA."""
    return rest.popleft() if argument.negatable and rest and rest[0].lower() in SWITCH_WORDS else "true"


def _unknown(flag: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(flag.replace("_", "-"), known, n=1, cutoff=0.6)
    return f"{flag}: unknown option. {f'Did you mean {near[0]}?' if near else 'Add --help to see all options.'}"
