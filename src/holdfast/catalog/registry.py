"""Finding methods by name, reading what the user typed about them, and adding methods of one's own."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from holdfast.catalog.feature_methods import FEATURE_METHODS
from holdfast.catalog.joint_methods import JOINT_METHODS
from holdfast.catalog.label_noise_losses import LABEL_NOISE_LOSSES
from holdfast.catalog.records import Method, Option, weight_option
from holdfast.catalog.weight_methods import WEIGHT_METHODS
from holdfast.entry_points import Published, published
from holdfast.errors import ConfigError, suggest

__all__ = ["METHODS", "known_methods", "method_record", "parse_methods", "register"]

Cls = TypeVar("Cls", bound=type)

log = logging.getLogger("holdfast")

METHODS: dict[str, Method] = {record.name: record for record in (*FEATURE_METHODS, *WEIGHT_METHODS, *JOINT_METHODS, *LABEL_NOISE_LOSSES)}


def method_record(name: str) -> Method:
    """The record of a method; one that an installed package publishes is imported now.

    Raises:
        ConfigError: No method has this name, and the message suggests the nearest; or the package that publishes it is at fault.

    Example:
        >>> method_record("adarand").weights[0].default
        1.0
    """
    if name not in METHODS:
        _import_method(name)
    return METHODS[name]


def known_methods() -> set[str]:
    """The names that can be chosen: those of the catalog, and those of installed packages, which are not imported for this."""
    return {*METHODS, *published()}


def _import_method(name: str) -> None:
    """Import the one package that publishes a method; where anything goes wrong, the catalog stays as it was."""
    packages = published().get(name, [])
    if not packages:
        raise ConfigError(f"unknown method {name!r}. {suggest(name, known_methods())}")
    if len(packages) > 1:
        raise ConfigError(
            f"the method {name!r} is published by {' and by '.join(map(str, packages))}; uninstall all but one of these packages."
        )
    before = dict(METHODS)
    try:
        packages[0].load()
        _check_registered(packages[0], METHODS.keys() - before.keys())
    except ConfigError:
        METHODS.clear()
        METHODS.update(before)
        raise
    for new in METHODS.keys() - before.keys():
        METHODS[new] = replace(METHODS[new], package=packages[0].package)


def _check_registered(method: Published, registered: Iterable[str]) -> None:
    if method.name not in METHODS:
        instead = f"only {', '.join(sorted(registered))}" if registered else "no method"
        raise ConfigError(f"the package {method} promises a method {method.name!r}, but importing {method.target!r} registers {instead}.")


def _warn_of_namesakes(record: Method) -> None:
    """An installed package cannot change what a name already means; but its user may expect it."""
    for other in published().get(record.name, []):
        if other.package != record.package:
            whose = "holdfast's own" if record.target.startswith("holdfast.") else f"the one of {record.package or 'your file'}"
            log.warning("the package %s publishes a method %r too; %s is used.", other, record.name, whose)


def parse_methods(spec: object, *, label: str = "method", task_loss: bool = True) -> list[dict[str, Any]]:
    """The canonical method list of an objective: every entry a dict with its name and every option, defaults filled in.

    Args:
        spec: A name, names joined by ``+``, or a list of names and ``{"name": …, option: …}``.
        label: How the user calls the place it stands in, for errors.
        task_loss: Whether ``plain`` is put first when no task loss is named.

    Raises:
        ConfigError: A name or option is unknown, a value does not fit, a method is named twice, or there are two task losses.

    Example:
        >>> [entry["name"] for entry in parse_methods("adarand+l2-sp")]
        ['plain', 'adarand', 'l2-sp']
        >>> parse_methods([{"name": "l2-sp", "weight": 0.1}])[1]
        {'name': 'l2-sp', 'weight': 0.1, 'head_weight': 0.01}
    """
    if isinstance(spec, str):
        if not all(name.strip() for name in spec.split("+")):
            raise ConfigError(f"{label}: a method name is missing in {spec!r}; join names as in adarand+l2-sp")
        entries = [_parse_entry({"name": name.strip()}, label, label) for name in spec.split("+")]
    elif isinstance(spec, list | tuple):
        entries = [_parse_entry(entry, f"{label}[{number}]", f"{label}[{number}].name") for number, entry in enumerate(spec)]
    else:
        raise ConfigError(f"{label}: expected a method name or a list of methods, got {spec!r}")
    names = [str(entry["name"]) for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{label}: method {twice!r} is named twice; give it once, with its options")
    losses = [name for name in names if METHODS[name].kind == "task loss"]
    if len(losses) > 1:
        raise ConfigError(f"{label}: {losses[0]!r} and {losses[1]!r} are both task losses; an objective has exactly one")
    if task_loss and not losses:
        entries.insert(0, _parse_entry({"name": "plain"}, label, label))
    return entries


def _parse_entry(entry: object, label: str, name_label: str) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"{label}: expected a name or {{name: …, option: …}}, got {entry!r}")
    try:
        record = method_record(entry["name"])
    except ConfigError as error:
        raise ConfigError(f"{name_label}: {error}") from error
    _warn_of_namesakes(record)
    options = record.all_options
    for key in entry:
        if key != "name" and key not in options:
            known = suggest(str(key), options) if options else "It has no options."
            raise ConfigError(f"{label}.{key}: method {entry['name']!r} has no option {key!r}. {known}")
    values = {"name": entry["name"]}
    for key, option in options.items():
        try:
            values[key] = option.parse(entry[key]) if key in entry else option.default
        except ConfigError as error:
            raise ConfigError(f"{label}.{key}: {error}") from None
    return values


def register(name: str, *, summary: str = "", weight: float = 1.0, **key_weights: float) -> Callable[[Cls], Cls]:
    """Class decorator that adds a method of your own to the catalog.

    Options are read off the annotated keyword arguments of ``__init__``.

    Args:
        name: What the user types; lower-case with hyphens.
        summary: One line for ``holdfast list``.
        weight: Default multiplier of the only or first returned scalar.
        key_weights: ``k_weight=…`` for each further returned key ``k``.

    Raises:
        ConfigError: The name is taken, or an argument of ``__init__`` has no type or default.
    """
    if not name or any(c not in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in name):
        raise ConfigError(f"register: {name!r} is no method name: use lower-case letters, digits and hyphens")
    for key in key_weights:
        if not key.endswith("_weight"):
            near = difflib.get_close_matches(key, ["weight", "summary"], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"register({name!r}): unknown argument {key!r}; weights of further terms end in '_weight'.{hint}")

    def decorate(cls: Cls) -> Cls:
        target = f"{cls.__module__}:{cls.__qualname__}"
        if name in METHODS and METHODS[name].target != target:
            raise ConfigError(f"register: the method {name!r} exists already ({METHODS[name].target}); choose another name")
        further = [
            weight_option(value, f"weight of the term {key.removesuffix('_weight')!r}", "plug-in", name=key)
            for key, value in key_weights.items()
        ]
        METHODS[name] = _PluginMethod(
            name=name,
            kind="task loss" if hasattr(cls, "loss") else "regularizer" if hasattr(cls, "penalty") else "model transform",
            target=target,
            summary=summary or (inspect.getdoc(cls) or "").partition("\n")[0],
            options=_options_of(cls, name),
            weights=(weight_option(weight, "weight of the penalty", "plug-in"), *further),
            loaded=cls,
        )
        return cls

    return decorate


@dataclass(frozen=True)
class _PluginMethod(Method):
    """A record whose class is at hand: a plug-in file is no importable module."""

    loaded: type | None = None

    def load(self) -> type:
        assert self.loaded is not None
        return self.loaded


def _options_of(cls: type, method: str) -> tuple[Option, ...]:
    hints = get_type_hints(inspect.getattr_static(cls, "__init__"))
    options = []
    for parameter in inspect.signature(cls).parameters.values():
        hint: Any = hints.get(parameter.name)
        choices: tuple[str, ...] = ()
        if get_origin(hint) is Literal:
            choices, hint = get_args(hint), str
        if hint not in (float, int, bool, str) or parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"register({method!r}): the argument {parameter.name!r} of {cls.__name__} needs a default and one of the types "
                "float, int, bool, str or Literal[...]"
            )
        options.append(Option(parameter.name, hint, parameter.default, "", choices=choices, source="plug-in"))
    return tuple(options)
