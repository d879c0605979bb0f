"""Where options come from: each place spells its keys in its own way, and errors speak of what was typed there."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Layer", "command_line", "from_preset", "from_yaml", "keywords"]


@dataclass(frozen=True)
class Layer:
    """Options from one place.

    Args:
        values: By field name of ``FitConfig``, as read there: text on the command line, any value in YAML and Python. Beside the
            fields, ``method.OPTION`` and ``method.NAME.OPTION`` set an option of the method chosen so far.
        spell: How a known key is typed there, such as ``--val-fraction`` or ``run.yaml: val_fraction``.
        unknown: The beginning of the sentence on a key that does not exist.
        quote: How a suggested key is typed there.
        example: A complete call, for those who left out what a run needs.
    """

    values: Mapping[str, Any]
    spell: Callable[[str], str]
    unknown: Callable[[str], str]
    quote: Callable[[str], str] = repr
    example: str = ""

    def no_such_key(self, key: str, known: Iterable[str]) -> str:
        """The sentence on an unknown key, with the nearest known one."""
        near = difflib.get_close_matches(key.replace("-", "_").lower(), list(known), n=1, cutoff=0.6)
        hint = f"Did you mean {self.quote(near[0])}?" if near else "Type 'holdfast fit --help' for all of them."
        return f"{self.unknown(key)}. {hint}"


_COMMAND = "holdfast fit cars/ --model timm:resnet50 --method adarand --out runs/cars"
_CALL = 'holdfast.fit("cars/", model="timm:resnet50", method="adarand", out="runs/cars")'


def command_line(values: Mapping[str, Any]) -> Layer:
    """Options of ``holdfast fit``: ``--val-fraction``; the data folder is the positional ``DATA``."""
    return Layer(values, _option, lambda key: f"{_option(key)}: unknown option", quote=_option, example=_COMMAND)


def from_yaml(path: str, values: Mapping[str, Any]) -> Layer:
    """Keys of a YAML file: ``run.yaml: val_fraction``."""
    return Layer(values, lambda key: f"{path}: {key}", lambda key: f"{path}: unknown key {key!r}", example=_COMMAND)


def keywords(values: Mapping[str, Any]) -> Layer:
    """Keywords of :func:`holdfast.fit`: ``fit(val_fraction=...)``."""
    return Layer(values, lambda key: f"fit({key}=...)", lambda key: f"fit({key}=...): unknown option", example=_CALL)


def from_preset(name: str, values: Mapping[str, Any]) -> Layer:
    """What ``--preset`` stands for."""
    return Layer(copy.deepcopy(dict(values)), lambda key: f"{key} of preset {name!r}", lambda key: f"preset {name!r}: unknown key {key!r}")


def _option(key: str) -> str:
    # A method's own options keep their underscores, as in YAML and in 'holdfast explain'.
    return "DATA" if key == "data" else "--" + (key if key.startswith("method.") else key.replace("_", "-"))
