"""From what the user typed about methods to the canonical list, every option filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.catalog import METHODS, known_methods, method_record, parse_methods
from holdfast.config.layers import Layer
from holdfast.errors import ConfigError, suggest

__all__ = ["PREFIX", "MethodChoice"]

PREFIX = "method."


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

    def resolve(self) -> list[dict[str, Any]]:
        """The canonical list.

        Raises:
            ConfigError: A name or option is unknown, a value does not fit, a method is named twice, or there are two task losses.
        """
        entries = parse_methods(self.spec, label=self.label)
        for key, (value, spelled) in self.options.items():
            _set_option(entries, key, value, spelled)
        return sorted(entries, key=lambda entry: METHODS[entry["name"]].kind != "task loss")


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
        raise ConfigError(f"{spelled}: this run composes {' and '.join(names)}; say which is meant: --method.{names[0]}.{option}.")
    return with_options[0] if with_options else entries[-1]
