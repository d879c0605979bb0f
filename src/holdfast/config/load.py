"""From layers of options to one checked ``FitConfig``, and back to YAML.

The order is defaults < preset < YAML file < command line (or Python keywords). All three doors go through :func:`resolve`; a wrong
value is reported in the words of the layer that holds it, even where another layer overrides it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from holdfast.config.checks import check_config
from holdfast.config.layers import Layer
from holdfast.config.methods import PREFIX, MethodChoice
from holdfast.config.plugins import load_plugin
from holdfast.config.presets import labels_layer, preset_layer, preset_methods
from holdfast.config.schema import RELEVANT_FIELDS, FitConfig
from holdfast.config.values import FIELDS, typed_value
from holdfast.errors import ConfigError

__all__ = ["config_hash", "config_to_yaml_dict", "machine_options", "recorded_config", "resolve"]


def resolve(layers: Sequence[Layer]) -> FitConfig:
    """The options of a run from where they were given, later layers over earlier ones.

    Plug-ins named by the result are executed. ``method`` becomes the canonical list, the task loss first, every option filled in.

    Args:
        layers: At least one; the last is the door through which the user came.

    Raises:
        ConfigError: One sentence on the first mistake, in the words of the layer that holds it.
    """
    typed = [dataclasses.replace(layer, values=_typed_values(layer)) for layer in layers]
    given = {key: layer for layer in typed for key in layer.values}
    preset, model, labels = (given[key].values[key] if key in given else getattr(FitConfig, key) for key in ("preset", "model", "labels"))
    typed[:0] = [preset_layer(preset, model), labels_layer(labels)]
    holder = {key: layer for layer in typed for key in layer.values}
    values = {key: layer.values[key] for key, layer in holder.items() if key in FIELDS and key != "method"}

    def spell(key: str) -> str:
        return holder.get(key, layers[-1]).spell(key)

    for file in values.get("plugin", ()):
        load_plugin(file, spell("plugin"))
    choice = MethodChoice()
    for layer in typed:
        choice.add(layer)
    if "milestones" not in given and values.get("schedule") != "step":
        values.pop("milestones", None)  # those of a preset go with its schedule
    if "warmup_epochs" in given and "warmup_steps" not in given:
        values.pop("warmup_steps", None)  # a preset's warm-up gives way to one in epochs
    if values.get("recipe") == "linear-probe":
        values["freeze"] = ["backbone"]  # the run's record says what was trained, whoever reads it
    methods = choice.resolve(preset_methods(preset, model), constrained=labels == "robust", transition=values.get("transition"))
    config = FitConfig(method=methods, **values)
    check_config(config, spell, layers[-1].example)
    return config


def recorded_config(layer: Layer) -> FitConfig:
    """The options of a finished run as it recorded them, for reading it: nothing is executed, or compared with this machine.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type.
    """
    return FitConfig(**_typed_values(layer))


def machine_options(layer: Layer) -> dict[str, Any]:
    """The options of a layer, all of which must be about the machine: what may change when a run is resumed.

    Raises:
        ConfigError: Another option is among them, or a value is wrong.
    """
    allowed = [key for key, field in FIELDS.items() if field.metadata["group"] == "machine"]
    for key in layer.values:
        if key.startswith(PREFIX) or (key in FIELDS and key not in allowed):
            beside = ", ".join(layer.quote(name) for name in allowed)
            raise ConfigError(f"{layer.spell(key)}: a resumed run keeps its options; only {beside} can be given beside it.")
    return _typed_values(layer)


def _typed_values(layer: Layer) -> dict[str, Any]:
    return {key: _typed(layer, key, value) for key, value in layer.values.items()}


def _typed(layer: Layer, key: str, value: Any) -> Any:
    if key.startswith(PREFIX) or key == "method":
        return copy.deepcopy(value)  # the catalog knows these types, once plug-ins have been executed
    if key not in FIELDS:
        raise ConfigError(layer.no_such_key(key, FIELDS))
    return typed_value(key, value, layer.spell(key))


def config_to_yaml_dict(config: FitConfig) -> dict[str, Any]:
    """Everything that repeats a run, defaults included, as plain values: ``resolve`` of it is ``config`` again."""
    return dataclasses.asdict(config)


def config_hash(config: FitConfig, data_fingerprint: str, reference_fingerprint: str) -> str:
    """SHA-256 over what decides the numbers of a run.

    Canonical JSON (sorted keys, no spaces, UTF-8) of the options that change numbers, the resolved methods and both fingerprints.
    The output folder, machine, and location of data and weights do not enter.

    Args:
        config: As :func:`resolve` gives it.
        data_fingerprint: SHA-256 of the dataset and its splits.
        reference_fingerprint: SHA-256 of the pretrained weights.
    """
    values = config_to_yaml_dict(config)
    relevant = {key: values[key] for key in RELEVANT_FIELDS}
    record = {"options": relevant, "data": data_fingerprint, "reference": reference_fingerprint}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
