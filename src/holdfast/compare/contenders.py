"""What is compared: entries of ``--methods``, each a label and the options of ``fit`` that make it what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.catalog import known_methods, method_record
from holdfast.compare.asked import Asked
from holdfast.compare.baselines import BASELINES, baseline_options
from holdfast.config.layers import Layer
from holdfast.config.methods import PREFIX
from holdfast.config.values import FIELDS
from holdfast.errors import ConfigError, suggest

__all__ = ["EQUAL_FOR_ALL", "Contender", "read_contenders"]

EQUAL_FOR_ALL = frozenset(
    {
        *("data", "model", "weights", "source_data", "plugin", "seed", "data_seed", "train_fraction", "out"),
        *("train_list", "shots", "test_split", "val_fraction", "split", "folds", "fold", "group_by", "skip_bad", "allow_empty_classes"),
        *(key for key, field in FIELDS.items() if field.metadata["group"] in ("machine", "output")),
    }
)
"""Options that no single method may have for itself: with other examples, or another start, runs are not paired."""

_IN_LABELS = ",=."
"""What divides the parts of ``--grid NAME.OPTION=V1,V2`` cannot stand in a name."""


@dataclass(frozen=True)
class Contender:
    """One of those that are compared.

    Args:
        label: What it is called in tables.
        method: ``--method``, as text or in the form of YAML.
        layers: Its own options of ``fit``, from the weakest to the strongest.
    """

    label: str
    method: Any
    layers: tuple[Layer, ...] = ()

    @property
    def names(self) -> list[str]:
        """Its methods by the names of the catalog."""
        if isinstance(self.method, str):
            return [name.strip() for name in self.method.split("+")]
        entries = [self.method] if isinstance(self.method, Mapping) else self.method
        return [entry if isinstance(entry, str) else str(entry.get("name")) for entry in entries]

    def key_of(self, option: str) -> str | None:
        """The key of ``FitConfig``, or ``method.OPTION``, that an option of this contender has; None where it has none of that name."""
        name, _, rest = option.rpartition(".")
        of_methods = [method for method in self.names if rest.replace("-", "_") in method_record(method).all_options]
        if name:
            return f"{PREFIX}{name}.{rest.replace('-', '_')}" if name in of_methods else None
        if of_methods:
            return f"{PREFIX}{of_methods[0]}.{rest.replace('-', '_')}" if len(of_methods) == 1 else None
        return rest.replace("-", "_") if rest.replace("-", "_") in FIELDS else None

    def options(self) -> list[str]:
        """The options of its methods."""
        return [option for name in self.names for option in method_record(name).all_options]


def read_contenders(asked: Asked) -> tuple[Contender, ...]:
    """The entries of ``methods``, with the options ``method.NAME.OPTION`` that concern each.

    Raises:
        ConfigError: There is none, a method is unknown, a name stands there twice, or an option is none of a method's own.
    """
    spelled, given = asked.spell("methods"), asked.get("methods")
    if given is None:
        raise ConfigError(f"{spelled} is missing; say what to compare, such as plain,adarand,l2-sp.")
    entries = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, Sequence) or not entries or entries == [""]:
        raise ConfigError(f"{spelled}: expected methods such as plain,adarand, got {given!r}; without any there are zero runs.")
    contenders = [_contender(entry, spelled if isinstance(given, str) else f"{spelled}[{at}]") for at, entry in enumerate(entries)]
    labels = [contender.label for contender in contenders]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"{spelled}: {twice!r} stands there twice; give one another name, as {{name: {twice}-2, method: {twice}}}.")
    return tuple(_with_method_options(contenders, asked))


def _contender(entry: Any, spelled: str) -> Contender:
    if isinstance(entry, str):
        baseline = _baseline(entry)
        if baseline is None:
            _check_known(entry, spelled)
        return baseline or Contender(_checked_label(entry, spelled), entry)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"{spelled}: expected a method or {{name: …, method: …, option: …}}, got {entry!r}.")
    label, method = _checked_label(entry["name"], spelled), entry.get("method", entry["name"])
    base = _baseline(method) if isinstance(method, str) else None
    if isinstance(method, str) and base is None:
        _check_known(method, f"{spelled}.method" if "method" in entry else spelled)
    contender = dataclasses.replace(base, label=label) if base else Contender(label, method)
    own = {key: value for key, value in entry.items() if key not in ("name", "method")}
    values = {_own_key(contender, str(key), spelled): value for key, value in own.items()}
    layer = Layer(values, lambda key: f"{spelled}.{key.removeprefix(PREFIX)}", lambda key: f"{spelled}: unknown key {key!r}")
    return dataclasses.replace(contender, layers=(*contender.layers, layer))


def _baseline(label: str) -> Contender | None:
    options = baseline_options(label)
    if options is None:
        return None
    values = {key: value for key, value in options.items() if key != "method"}
    layer = Layer(values, lambda key: f"{key} of the baseline {label!r}", lambda key: f"baseline {label!r}: unknown key {key!r}")
    return Contender(label, options.get("method", "plain"), (layer,))


def _check_known(method: str, spelled: str) -> None:
    known = {*known_methods(), *BASELINES}
    for name in method.split("+"):
        if name.strip() not in known_methods():
            raise ConfigError(f"{spelled}: unknown method {name.strip()!r}. {suggest(name.strip(), known)}")


def _checked_label(label: str, spelled: str) -> str:
    if not label or any(mark in label for mark in _IN_LABELS):
        raise ConfigError(f"{spelled}: {label!r} cannot be a name; leave out commas, points and equals signs.")
    return label


def _own_key(contender: Contender, key: str, spelled: str) -> str:
    found = contender.key_of(key)
    if found is None:
        raise ConfigError(f"{spelled}: unknown key {key!r}. {suggest(key, [*contender.options(), *FIELDS])}")
    if found in EQUAL_FOR_ALL:
        raise ConfigError(f"{spelled}.{key}: must be equal for all methods, or their runs are not paired; give it beside methods instead.")
    return found


def _with_method_options(contenders: Sequence[Contender], asked: Asked) -> list[Contender]:
    """Each contender with the options ``method.NAME.OPTION`` of the methods in it."""
    found = list(contenders)
    for layer in asked.of_methods:
        for key in layer.values:
            name, _, option = key.removeprefix(PREFIX).rpartition(".")
            if not name:
                raise ConfigError(f"{layer.spell(key)}: which method has it? Type {layer.spell(f'{PREFIX}NAME.{option}')}.")
            if not any(name in contender.names for contender in contenders):
                names = {name for contender in contenders for name in contender.names}
                raise ConfigError(f"{layer.spell(key)}: the method {name!r} is not compared. {suggest(name, names)}")
        for at, contender in enumerate(found):
            mine = {key: value for key, value in layer.values.items() if _method_of(key) in contender.names}
            # Weaker than what the entry itself says.
            found[at] = dataclasses.replace(contender, layers=(dataclasses.replace(layer, values=mine), *contender.layers))
    return found


def _method_of(key: str) -> str:
    return key.removeprefix(PREFIX).rpartition(".")[0]
