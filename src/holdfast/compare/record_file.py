"""``comparison.json``, written and read: every field is checked against the type of the record it belongs to."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from holdfast.compare.record import FILE, SCHEMA, Comparison
from holdfast.errors import RunError
from holdfast.run.files import one_line, to_json

__all__ = ["read_comparison", "to_text"]

Record = TypeVar("Record")

_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "a text"),
    bool: (bool, "true or false"),
}


def to_text(comparison: Comparison) -> str:
    """The text of ``comparison.json``."""
    return to_json({"schema": SCHEMA, **dataclasses.asdict(comparison)})


def read_comparison(folder: str | Path) -> Comparison:
    """The record of a comparison's directory.

    Raises:
        RunError: There is none, it is damaged, or it has another schema.
    """
    file = Path(folder) / FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{str(folder)!r} has no {FILE}: give a directory that holdfast compare wrote") from error
    except OSError as error:
        raise RunError(f"cannot read {str(file)!r}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{str(file)!r} is damaged: {one_line(error)}; {_AGAIN}") from error
    if not isinstance(values, dict):
        raise RunError(f"{str(file)!r} is damaged: expected keys with values; {_AGAIN}")
    if values.get("schema") != SCHEMA:
        found = values.get("schema")
        raise RunError(f"{str(file)!r} has schema {found!r}, expected {SCHEMA}: read it with the holdfast that wrote it")
    try:
        comparison = _record(Comparison, values, "")
        _check_places(comparison)
    except _DamagedError as error:
        raise RunError(f"{str(file)!r} is damaged: {error}; {_AGAIN}") from None
    return comparison


_AGAIN = "repeat the holdfast compare command that wrote it, finished runs are kept"


class _DamagedError(Exception):
    """What is wrong at which place."""


def _record(kind: type[Record], values: Any, where: str) -> Record:
    """An object of a dataclass from the dict of its fields; further keys are left out."""
    if not isinstance(values, Mapping):
        raise _DamagedError(f"{where} is {_shown(values)}, expected keys with values")
    prefix = f"{where}." if where else ""
    fields = {}
    for name, hint in _hints(typing.cast(Any, kind)).items():
        if name not in values:
            raise _DamagedError(f"the key '{prefix}{name}' is missing")
        fields[name] = _value(hint, values[name], f"{prefix}{name}")
    return kind(**fields)


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value as its type hint wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _DamagedError(f"{where} is {_shown(value)}, expected keys with values")
        return {key: _value(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise _DamagedError(f"{where} is {_shown(value)}, expected one of {', '.join(map(repr, arguments))}")
        return value
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast(type[Any], hint), value, where)
    kinds, words = _KINDS[hint]
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise _DamagedError(f"{where} is {_shown(value)}, expected {words}")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A list as a tuple, of any length where the hint ends in dots."""
    if not isinstance(value, list):
        raise _DamagedError(f"{where} is {_shown(value)}, expected a list")
    hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(value):
        raise _DamagedError(f"{where} has {len(value)} entries, expected {len(hints)}")
    return tuple(_value(hint, entry, f"{where}[{place}]") for place, (hint, entry) in enumerate(zip(hints, value, strict=True)))


def _check_places(comparison: Comparison) -> None:
    """Every row of a method or pair belongs to a setting that is there."""
    count = len(comparison.settings)
    places = {"methods": [row.setting for row in comparison.methods], "pairs": [row.setting for row in comparison.pairs]}
    for name, settings in places.items():
        for place, setting in enumerate(settings):
            if not 0 <= setting < count:
                raise _DamagedError(f"{name}[{place}].setting is {setting}, and there are {count} settings")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of the fields of a dataclass, by name."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _shown(value: Any) -> str:
    """A value, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
