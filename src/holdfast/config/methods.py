"""From what the user typed about methods to the canonical list, every option filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from holdfast.catalog import METHODS, known_methods, method_record, parse_methods
from holdfast.config.layers import Layer
from holdfast.errors import ConfigError, suggest

__all__ = ["PREFIX", "MethodChoice"]

PREFIX = "method."

CONSTRAINTS = {"distance", "distance-penalty"}
"""What holds the weights near their start."""


@dataclass
class MethodChoice:
    """The method as layers are read in order.

    A layer that names the method replaces it with all its options; ``method.OPTION`` changes an option of what stands so far.
    """

    spec: object = "plain"
    label: str = "method"
    options: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def add(self, layer: Layer) -> None:
        """Take over what a layer says about methods."""
        if "method" in layer.values:
            spec = layer.values["method"]
            self.spec, self.label, self.options = [spec] if isinstance(spec, Mapping) else spec, layer.spell("method"), {}
        for key, value in layer.values.items():
            if key.startswith(PREFIX):
                self.options[key.removeprefix(PREFIX)] = (value, layer.spell(key))

    def resolve(
        self, preset: Mapping[str, Mapping[str, Any]] = MappingProxyType({}), *, constrained: bool = False, transition: str | None = None
    ) -> list[dict[str, Any]]:
        """The canonical list.

        Args:
            preset: Options by method and name that a preset brings, for what no layer says.
            constrained: Whether ``distance`` joins the methods where none of them holds the weights near their start. It then leaves the
                head alone, whose useful radius depends on the size of the features.
            transition: The matrix for corrections that were given none of their own.

        Raises:
            ConfigError: A name or option is unknown, a value does not fit, a method is named twice, or there are two task losses.
        """
        entries = parse_methods(self.spec, label=self.label)
        if constrained and not {entry["name"] for entry in entries} & CONSTRAINTS:
            entries += parse_methods([{"name": "distance", "head_radius": "none"}], task_loss=False)
        for entry in entries:
            entry |= _left(preset.get(entry["name"], {}), self._given(entry["name"]))
        for key, (value, spelled) in self.options.items():
            _set_option(entries, key, value, spelled)
        if transition is not None:
            entries = [entry | {"transition": transition} if entry.get("transition") == "none" else entry for entry in entries]
        return sorted(entries, key=lambda entry: METHODS[entry["name"]].kind != "task loss")

    def _given(self, name: str) -> dict[str, Any]:
        """What layers say about the options of a method."""
        listed = self.spec if isinstance(self.spec, list | tuple) else ()
        given = {key: value for entry in listed if isinstance(entry, Mapping) and entry.get("name") == name for key, value in entry.items()}
        for key, (value, _) in self.options.items():
            method, _, option = key.rpartition(".")
            if method in ("", name):
                given[option.replace("-", "_")] = value
        return given


def _left(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a preset that what was given leaves standing: a ratio takes the place of a radius, patterns that of layers."""
    bounds = [str(given[key]) for key in ("radius", "ratio") if key in given]
    replaced = {*given, *(("radius",) if bounds else ()), *(("layers",) if any("=" in bound for bound in bounds) else ())}
    return {key: value for key, value in preset.items() if key not in replaced}


def _set_option(entries: list[dict[str, Any]], key: str, value: Any, spelled: str) -> None:
    name, _, option_name = key.rpartition(".")
    entry = _entry_named(entries, name, spelled) if name else _only_entry(entries, option_name, spelled)
    options = method_record(entry["name"]).all_options
    option = options.get(option_name) or options.get(option_name.replace("-", "_"))
    if option is None:
        known = suggest(option_name, options) if options else "It has no options."
        raise ConfigError(f"{spelled}: method {entry['name']!r} has no option {option_name!r}. {known}")
    try:
        entry[option.name] = option.parse(value)
    except ConfigError as error:
        raise ConfigError(f"{spelled}: {error}.") from error


def _entry_named(entries: list[dict[str, Any]], name: str, spelled: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    names = [entry["name"] for entry in entries]
    if name in known_methods():
        raise ConfigError(
            f"{spelled}: the method of this run is {'+'.join(names)}; add {name!r} to it with --method {'+'.join([*names, name])}."
        )
    raise ConfigError(f"{spelled}: unknown method {name!r}. {suggest(name, known_methods())}")


def _only_entry(entries: list[dict[str, Any]], option: str, spelled: str) -> dict[str, Any]:
    """The one method that can be meant: a task loss without options, such as plain, is not."""
    with_options = [entry for entry in entries if len(entry) > 1]
    if len(with_options) > 1:
        names = [entry["name"] for entry in with_options]
        meant = next((entry["name"] for entry in with_options if option.replace("-", "_") in entry), names[0])
        raise ConfigError(f"{spelled}: this run composes {' and '.join(names)}; say which is meant: --method.{meant}.{option}.")
    return with_options[0] if with_options else entries[-1]
