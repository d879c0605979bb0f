"""Labeling functions: rules that vote for a class or abstain, from one file of Python functions, regular expressions or keywords."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, DataError, describe
from holdfast.labels.arrays import ABSTAIN, IntArray

__all__ = ["Rule", "apply_rules", "read_rules", "rules_of_module"]


@dataclass(frozen=True)
class Rule:
    """A labeling function.

    Args:
        name: How it is called in reports.
        vote: From a text to the name of a class, or None.
        classes: The classes it can vote for, where that is known beforehand.
    """

    name: str
    vote: Callable[[str], Any]
    classes: tuple[str, ...] = ()


def read_rules(file: str) -> list[Rule]:
    """Rules of a JSON file: a list of objects with ``label`` and either ``pattern`` or ``keywords``.

    A pattern is a regular expression that is searched for; keywords are whole words or phrases. Case does not matter unless
    ``"case": true``. ``name`` or ``id`` names the rule.

    Args:
        file: A file that ends in ``.json``.

    Raises:
        ConfigError: The file is missing or no such list; the message names the entry.
    """
    try:
        entries = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--rules {file}: {(error.strerror or str(error)).lower()}.") from None
    except ValueError as error:
        raise ConfigError(f"--rules {file}: this is no JSON ({error}).") from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f'--rules {file}: expected a list of rules such as [{{"label": "spam", "keywords": ["subscribe"]}}].')
    rules = [_rule(f"--rules {file}, entry {number}", entry, number) for number, entry in enumerate(entries, start=1)]
    _refuse_same_names(file, rules)
    return rules


def rules_of_module(module: ModuleType, file: str) -> list[Rule]:
    """Rules of a Python file: its list ``RULES`` where there is one, else every public function it defines, in order.

    A function takes the text and returns the name of a class, or None to abstain.

    Args:
        module: The executed file.
        file: Its name, for errors.

    Raises:
        ConfigError: There is none, or one takes more than a text.
    """
    given = getattr(module, "RULES", None)
    functions = list(given) if given is not None else [value for name, value in vars(module).items() if _is_rule(module, name, value)]
    if not functions:
        raise ConfigError(
            f"--rules {file}: there is no function in it; a rule is a function that takes a text and returns a class, or None."
        )
    for function in functions:
        if not callable(function) or not _takes_one(function):
            raise ConfigError(f"--rules {file}: {getattr(function, '__name__', function)!r} is no rule; a rule is a function of one text.")
    rules = [Rule(getattr(function, "__name__", f"rule {number}"), function) for number, function in enumerate(functions, start=1)]
    _refuse_same_names(file, rules)
    return rules


def apply_rules(rules: Sequence[Rule], texts: Sequence[str], classes: Sequence[str], *, where: Callable[[int], str]) -> IntArray:
    """Votes (N, M) of rules on texts, -1 where a rule abstains.

    Args:
        rules: M rules.
        texts: N texts.
        classes: Names of the classes.
        where: A row in words, for errors.

    Raises:
        DataError: A rule raises or votes for an unknown class; the message names the rule and the text.
    """
    place = {name: number for number, name in enumerate(classes)}
    votes = np.full((len(texts), len(rules)), ABSTAIN, dtype=np.int64)
    for column, rule in enumerate(rules):
        for row, text in enumerate(texts):
            vote = _vote(rule, text, where(row))
            if vote is None:
                continue
            if vote not in place:
                raise DataError(
                    f"the rule {rule.name!r} votes for {vote!r} on {where(row)} ({_short(text)}); the classes are {', '.join(classes)}."
                )
            votes[row, column] = place[vote]
    return votes


def _vote(rule: Rule, text: str, place: str) -> str | None:
    try:
        vote = rule.vote(text)
    except Exception as error:  # code of the user's
        raise DataError(f"the rule {rule.name!r} failed on {place} ({_short(text)}): {describe(error)}.") from error
    return None if vote is None or vote == ABSTAIN or vote == "" else str(vote)


def _rule(place: str, entry: Any, number: int) -> Rule:
    if not isinstance(entry, dict) or "label" not in entry:
        raise ConfigError(f"{place}: expected an object with 'label' and 'pattern' or 'keywords'.")
    label, name = str(entry["label"]), str(entry.get("name", entry.get("id", number)))
    flags = 0 if entry.get("case", False) else re.IGNORECASE
    if "pattern" in entry:
        pattern = entry["pattern"]
    elif isinstance(entry.get("keywords"), list) and entry["keywords"]:
        pattern = r"(?<!\w)(?:" + "|".join(re.escape(str(word)) for word in entry["keywords"]) + r")(?!\w)"
    else:
        raise ConfigError(f"{place}: rule {name!r} has neither 'pattern' nor a list 'keywords'.")
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, TypeError) as error:
        raise ConfigError(f"{place}: the pattern of rule {name!r} is no regular expression ({error}).") from None
    return Rule(name, lambda text: label if compiled.search(text) else None, (label,))


def _refuse_same_names(file: str, rules: Sequence[Rule]) -> None:
    names = [rule.name for rule in rules]
    twice = next((name for row, name in enumerate(names) if name in names[:row]), None)
    if twice is not None:
        raise ConfigError(f"--rules {file}: two rules are called {twice!r}; give each a name of its own.")


def _is_rule(module: ModuleType, name: str, value: Any) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")


def _takes_one(function: Any) -> bool:
    try:
        inspect.signature(function).bind("")
    except (TypeError, ValueError):
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
