"""Search grids: which values of which options are tried for a method, and that all who are searched are tried equally often."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.compare.asked import Asked
from holdfast.compare.contenders import EQUAL_FOR_ALL, Contender
from holdfast.config.layers import Layer
from holdfast.config.values import FIELDS
from holdfast.errors import ConfigError, suggest

__all__ = ["Trial", "read_trials"]


@dataclass(frozen=True)
class Trial:
    """A point of a method's grid.

    Args:
        name: Such as ``lr=0.01, weight=1``; "" where nothing is searched.
        layer: The options it sets.
    """

    name: str
    layer: Layer


@dataclass(frozen=True)
class _Axis:
    """An option and its values.

    ``method`` None stands for every one.
    """

    method: str | None
    option: str
    values: tuple[Any, ...]
    spelled: str


def read_trials(asked: Asked, contenders: Sequence[Contender]) -> dict[str, tuple[Trial, ...]]:
    """The trials of each method by its label; one without a name where it is not searched.

    Raises:
        ConfigError: A name, option or value is wrong, or one method would be tried more often than another.
    """
    axes = _read_axes(asked, [contender.label for contender in contenders])
    trials = {contender.label: _trials(contender, axes) for contender in contenders}
    counts = {label: len(found) for label, found in trials.items() if found[0].name}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{label} {count}" for label, count in counts.items())
        raise ConfigError(
            f"{asked.spell('grid')}: a fair search tries every method equally often, and here the trials are {listed}; give each as many."
        )
    return trials


def _read_axes(asked: Asked, labels: Sequence[str]) -> list[_Axis]:
    spelled, given = asked.spell("grid"), asked.get("grid")
    if given is None:
        return []
    if isinstance(given, Mapping):
        axes = _of_mapping(given, spelled)
    else:
        axes = [_of_text(text, spelled, labels) for text in ([given] if isinstance(given, str) else given)]
    for axis in axes:
        if axis.method is not None and axis.method not in labels:
            raise ConfigError(f"{axis.spelled}: {axis.method!r} is not compared. {suggest(axis.method, labels)}")
        if not axis.values:
            raise ConfigError(f"{axis.spelled}: no value is given, which makes a search of zero runs; give some, as 0.1,1,10.")
        if len({str(value) for value in axis.values}) < len(axis.values):
            raise ConfigError(f"{axis.spelled}: a value stands there twice; every trial is made once, so leave one of them out.")
    _refuse_same_axis(axes)
    return axes


def _of_text(text: Any, spelled: str, labels: Sequence[str]) -> _Axis:
    """``NAME.OPTION=V1,V2`` or ``OPTION=V1,V2``; NAME is a label, which may itself hold a ``+``."""
    target, equals, values = str(text).partition("=")
    if not equals or not target.strip():
        raise ConfigError(f"{spelled} {text}: expected the form NAME.OPTION=VALUE,VALUE, such as adarand.weight=0.1,1,10.")
    first, point, rest = target.strip().partition(".")
    method, option = (first, rest) if point else (None, first)
    return _Axis(method, option, tuple(part.strip() for part in values.split(",") if part.strip()), f"{spelled} {text}")


def _of_mapping(given: Mapping[Any, Any], spelled: str) -> list[_Axis]:
    axes = []
    for key, value in given.items():
        inside = value.items() if isinstance(value, Mapping) else [(None, value)]
        for option, values in inside:
            where = f"{spelled}.{key}" + (f".{option}" if option is not None else "")
            if not isinstance(values, list | tuple):
                raise ConfigError(f"{where}: expected a list of values such as [0.1, 1, 10], got {values!r}.")
            method, name = (None, key) if option is None else (str(key), option)
            axes.append(_Axis(method, str(name), tuple(values), where))
    return axes


def _refuse_same_axis(axes: Sequence[_Axis]) -> None:
    seen: set[tuple[str | None, str]] = set()
    for axis in axes:
        option = axis.option.replace("-", "_")
        if (axis.method, option) in seen:
            raise ConfigError(f"{axis.spelled}: {axis.option} has values already; give all of them at once.")
        seen.add((axis.method, option))


def _trials(contender: Contender, axes: Sequence[_Axis]) -> tuple[Trial, ...]:
    own = {axis.option.replace("-", "_") for axis in axes if axis.method == contender.label}
    # What is searched for one method alone stands above what is searched for all.
    mine = [axis for axis in axes if axis.method == contender.label or (axis.method is None and axis.option.replace("-", "_") not in own)]
    keys = [_key(contender, axis) for axis in mine]
    spelled = dict(zip(keys, (axis.spelled for axis in mine), strict=True))
    found = []
    for point in itertools.product(*(axis.values for axis in mine)):
        name = ", ".join(f"{axis.option}={value}" for axis, value in zip(mine, point, strict=True))
        layer = Layer(dict(zip(keys, point, strict=True)), lambda key: spelled[key], lambda key: f"{spelled[key]}: unknown option")
        found.append(Trial(name, layer))
    return tuple(found)


def _key(contender: Contender, axis: _Axis) -> str:
    """The key of ``FitConfig``, or ``method.NAME.OPTION``."""
    key = contender.key_of(axis.option) if axis.method is not None else axis.option.replace("-", "_")
    if key is None or (key not in FIELDS and axis.method is None):
        known = [*(contender.options() if axis.method is not None else ()), *FIELDS]
        near = difflib.get_close_matches(axis.option.replace("-", "_"), known, n=1, cutoff=0.6)
        whose = "fit" if axis.method is None else f"{contender.label}, as fit,"
        raise ConfigError(f"{axis.spelled}: {whose} has no option {axis.option!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
    if key in EQUAL_FOR_ALL:
        raise ConfigError(f"{axis.spelled}: must be equal for all methods, or their runs are not paired; give it as an option of its own.")
    return key
