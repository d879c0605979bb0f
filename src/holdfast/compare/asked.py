"""What a comparison was asked to be, from the command line, a YAML file or Python: its own keys, and the options of ``fit`` beside them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.config.layers import Layer
from holdfast.config.methods import PREFIX
from holdfast.config.values import FIELDS, typed_value
from holdfast.errors import ConfigError

__all__ = ["KEYS", "Asked", "command_line", "from_yaml", "keywords"]

KEYS: dict[str, str] = {
    "data": "one or more datasets, each in one of the forms that 'holdfast fit' takes",
    "models": "networks, divided by commas; see 'holdfast fit --help'",
    "methods": "what is compared, divided by commas: methods, several joined by '+', and baselines; see 'holdfast list methods'",
    "seeds": "training seeds: how many (0, 1, ...), or a list such as 3,5,8",
    "data_seeds": "seeds of splits, and of --shots and --fractions: how many, or a list; every training seed is used with each",
    "fractions": "shares of the training split, divided by commas; a table for each (default: all of it)",
    "grid": "values of an option that are tried for one method, as adarand.weight=0.1,1,10, or for each of them, as lr=0.003,0.01; may be "
    "repeated; the trial with the best mean validation accuracy is the one that is compared",
    "tune_seeds": "training seeds of each trial; others than those that are compared",
    "baseline": "the method that all others are compared with (default: the first)",
    "every_pair": "compare every method with every other, not only with the baseline; more pairs make a verdict harder",
    "average": "afterwards average the weights of the finished runs, chosen on validation: with the start, and with each other",
    "workers": "processes that make runs at the same time (default: one for each GPU, or for every two CPUs)",
    "ray": "make the runs on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local for one of this machine's own (needs holdfast[ray])",
    "storage": "with --ray, where the nodes see no common directory: a URL below which runs are kept while they are made, as s3://BUCKET/NAME",
    "out": "the directory of the comparison; type the same command again to go on with it",
}
"""The keys of a comparison that are none of ``fit``, or mean more here, with their help."""

ALIASES = {"model": "models"}

INSTEAD = {
    "method": "methods",
    "seed": "seeds",
    "data_seed": "data_seeds",
    "train_fraction": "fractions",
}
"""Options of ``fit`` that a comparison has in the plural."""

NOT_HERE = {
    "devices": "a comparison starts its own processes",
    "nodes": "a comparison starts its own processes",
}


@dataclass(frozen=True)
class Asked:
    """Everything that was asked, and how each part is called where it came from.

    Args:
        layers: From the weakest to the strongest; the keys of the comparison and the options of ``fit`` in one.
    """

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> Asked:
        """Layers whose keys are known.

        Raises:
            ConfigError: A key is unknown, or has another name in a comparison.
        """
        renamed = []
        for layer in layers:
            _check_keys(layer)
            values = {ALIASES.get(key, key): value for key, value in layer.values.items() if value is not None}
            renamed.append(dataclasses.replace(layer, values=values))
        return cls(tuple(renamed))

    def get(self, key: str) -> Any:
        """The value of a key of the comparison, or None."""
        return self._holder(key).values.get(key)

    def spell(self, key: str) -> str:
        """How the user calls a key."""
        return self._holder(key).spell(key)

    @property
    def shared(self) -> list[Layer]:
        """The options of ``fit`` that all runs share; those of single methods (``method.NAME.OPTION``) are not among them."""
        return [_only(layer, lambda key: key not in KEYS and not key.startswith(PREFIX)) for layer in self.layers]

    @property
    def of_methods(self) -> list[Layer]:
        """The options ``method.NAME.OPTION``."""
        return [_only(layer, lambda key: key.startswith(PREFIX)) for layer in self.layers]

    def switch(self, key: str, *, default: bool) -> bool:
        """The value of a key that is true or false.

        Raises:
            ConfigError: It is neither.
        """
        words = {"true": True, "yes": True, "false": False, "no": False, "none": default}
        found = words.get(str(self.get(key)).lower())
        if found is None:
            raise ConfigError(f"{self.spell(key)}: expected true or false, got {self.get(key)!r}.")
        return found

    def complete(self) -> dict[str, Any]:
        """All of it as one mapping, which asks for the same; without ``out``, which may be moved."""
        values = {key: _tidy(layer, key, value) for layer in self.layers for key, value in layer.values.items() if key != "out"}
        return dict(sorted(values.items(), key=lambda entry: (entry[0] not in KEYS, list(KEYS).index(entry[0]) if entry[0] in KEYS else 0)))

    def _holder(self, key: str) -> Layer:
        return next((layer for layer in reversed(self.layers) if key in layer.values), self.layers[-1])


def command_line(values: Mapping[str, Any]) -> Layer:
    """Options of ``holdfast compare``."""
    example = "holdfast compare cars/ --model timm:resnet18 --methods plain,adarand --seeds 5 --out comparisons/cars"
    return Layer(values, _option, lambda key: f"{_option(key)}: unknown option", quote=_option, example=example)


def from_yaml(path: str, values: Mapping[str, Any]) -> Layer:
    """Keys of a YAML file."""
    return Layer(values, lambda key: f"{path}: {key}", lambda key: f"{path}: unknown key {key!r}")


def keywords(values: Mapping[str, Any]) -> Layer:
    """Keywords of :func:`holdfast.compare`."""
    example = 'holdfast.compare("cars/", models="timm:resnet18", methods=["plain", "adarand"], seeds=5, out="comparisons/cars")'
    return Layer(values, lambda key: f"compare({key}=...)", lambda key: f"compare({key}=...): unknown option", example=example)


def _option(key: str) -> str:
    return "DATA" if key == "data" else "--" + (key if key.startswith(PREFIX) else key.replace("_", "-"))


def _only(layer: Layer, wanted: Any) -> Layer:
    return dataclasses.replace(layer, values={key: value for key, value in layer.values.items() if wanted(key)})


def _tidy(layer: Layer, key: str, value: Any) -> Any:
    """A value as YAML is written: numbers as numbers, where they came as text."""
    if key in KEYS or key.startswith(PREFIX):
        return int(value) if isinstance(value, str) and value.isdecimal() else value
    return typed_value(key, value, layer.spell(key))


def _check_keys(layer: Layer) -> None:
    for key, value in layer.values.items():
        if key in INSTEAD:
            plural = layer.quote(INSTEAD[key])
            raise ConfigError(f"{layer.spell(key)} {value}: a comparison has {plural} instead.")
        if key in NOT_HERE:
            raise ConfigError(f"{layer.spell(key)} {value}: {NOT_HERE[key]}; leave it out.")
        if key not in KEYS and key not in ALIASES and key not in FIELDS and not key.startswith(PREFIX):
            near = difflib.get_close_matches(key.replace("-", "_").lower(), [*KEYS, *FIELDS], n=1, cutoff=0.6)
            hint = f"Did you mean {layer.quote(near[0])}?" if near else "Type 'holdfast compare --help' for all of them."
            raise ConfigError(f"{layer.unknown(key)}. {hint}")
    if "model" in layer.values and "models" in layer.values:
        raise ConfigError(f"{layer.spell('model')} and {layer.spell('models')}: both name the networks; give one of them.")
