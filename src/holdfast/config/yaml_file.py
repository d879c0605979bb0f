"""Reading a YAML file of options: plain values only, and every mistake with its line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml

from holdfast.config.layers import Layer, from_yaml
from holdfast.errors import ConfigError

__all__ = ["nearest_file", "yaml_layer"]

RECORDED = ("versions",)
"""Keys of a run's ``config.yaml`` that record and do not configure, so that the file can be given as it is."""


def yaml_layer(path: str) -> Layer:
    """The options of a YAML file.

    Raises:
        ConfigError: The file is missing, is no YAML, holds an object of another kind than keys with values, or names a key twice.
    """
    values = _parse(_read(path), path)
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else repr(values)
        raise ConfigError(f"{path}: expected keys with values such as 'lr: 0.01', got {kind}.")
    return from_yaml(path, {str(key): value for key, value in values.items() if key not in RECORDED})


def nearest_file(path: Path, pattern: str = "*") -> str:
    """The tail of a "no such file" message: the file beside it with the nearest name."""
    beside = {entry.name: entry for entry in path.parent.glob(pattern)} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    return f" Did you mean '{beside[near[0]]}'?" if near else ""


def _read(path: str) -> str:
    if Path(path).is_dir():
        inside = Path(path) / "config.yaml"
        hint = f"give the file, --config {inside}" if inside.is_file() else "give a YAML file"
        raise ConfigError(f"--config {path}: is a folder; {hint}.")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"--config {path}: no such file.{nearest_file(Path(path), '*.y*ml')}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no text file in UTF-8, so no YAML.") from error
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read: {error.strerror}.") from error


def _parse(text: str, path: str) -> Any:
    try:
        parsed = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no valid YAML: {str(error).splitlines()[0]}.") from error
    return {} if parsed is None else parsed


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe loading that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in first:
                problem = f"the key {key.value!r} is given twice, first in line {first[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)
