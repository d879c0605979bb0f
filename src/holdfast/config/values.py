"""One value of one option: from text, YAML or Python to the type and range its field declares, or one sentence why not."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import difflib
import functools
import math
import os
from typing import Any, Literal, get_args, get_origin, get_type_hints

from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError

__all__ = ["FIELDS", "choices_of", "describe_type", "plain_type", "typed_value"]

FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(FitConfig)}
_HINTS: dict[str, Any] = get_type_hints(FitConfig)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def plain_type(key: str) -> Any:
    """The annotation of a field without its ``| None``."""
    members = [member for member in get_args(_HINTS[key]) if member is not type(None)]
    return members[0] if type(None) in get_args(_HINTS[key]) and len(members) == 1 else _HINTS[key]


def choices_of(key: str) -> tuple[str, ...]:
    """The allowed words of a field, or of its entries where it is a list, where there are few."""
    hint = plain_type(key)
    if get_origin(hint) is list:
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) is Literal else ()


def describe_type(key: str) -> str:
    """What a field takes, in words: "a whole number"."""
    hint = plain_type(key)
    if choices_of(key):
        some = "one or more" if get_origin(hint) is list else "one"
        return f"{some} of {', '.join(choices_of(key))}"
    if get_origin(hint) is list:
        return {"milestones": "whole numbers such as 9,18,24", "freeze": "patterns such as stem,blocks.0"}.get(
            key, "a file name, or a list of them"
        )
    return _WORDS[hint]


def typed_value(key: str, value: Any, spelled: str) -> Any:
    """The value as the type of its field, within its range.

    Args:
        key: Field of ``FitConfig``, other than ``method``.
        value: Text from the command line, or any value from YAML or Python.
        spelled: How the user calls the option, for the message.

    Raises:
        ConfigError: Says what was expected and what was given.
    """
    try:
        typed = _convert(key, value)
    except (ValueError, argparse.ArgumentError) as error:
        shown = "nothing" if value is None else repr(value)
        raise ConfigError(f"{spelled}: expected {describe_type(key)}, got {shown}.{_hint(key, value)}") from error
    _check_range(key, typed, spelled)
    return typed


def _hint(key: str, value: Any) -> str:
    near = difflib.get_close_matches(str(value), choices_of(key), n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    wants_text = plain_type(key) is str and isinstance(value, int | float)
    return f' Write it in quotes: "{value}".' if wants_text else ""


def _convert(key: str, value: Any) -> Any:
    hint = plain_type(key)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, bool) and choices_of(key):
        value = "on" if value else "off"  # which YAML 1.1 reads as true and false
    elif type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if get_origin(hint) is list:
        value = _as_list(key, value, get_args(hint)[0])
    elif isinstance(value, str):
        value = _from_text(value, hint)
    if value is None and hint is _HINTS[key]:  # the parser would let it pass
        raise ValueError("nothing given")
    # The copy: parse_object writes converted items back into the lists it is given.
    return _parser().parse_object({key: copy.deepcopy(value)}, defaults=False)[key]


def _as_list(key: str, value: Any, item: Any) -> Any:
    """A list from text: divided by commas, which only a file name may contain."""
    if isinstance(value, str):
        return [value] if key == "plugin" else [_from_text(part.strip(), item) for part in value.split(",")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _from_text(text: str, hint: Any) -> Any:
    """Numbers as Python reads them. jsonargparse would read them as YAML 1.1, where 1:30 is ninety."""
    if text.lower() in ("null", "none") and hint in (int, float):
        return None
    return hint(text) if hint in (int, float) else text.lower() if hint is bool else text


def _check_range(key: str, value: Any, spelled: str) -> None:
    allowed = FIELDS[key].metadata["range"]
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if not math.isfinite(number) or (allowed is not None and number not in allowed):
            words = _WORDS[int] if isinstance(value, list) else describe_type(key)
            raise ConfigError(f"{spelled}: expected {words} {allowed}, got {number!r}.")


@functools.cache
def _parser() -> Any:
    """What knows the types of a dataclass: jsonargparse. It gets one key at a time, so that an error has one culprit and one sentence."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FitConfig)
    return parser
