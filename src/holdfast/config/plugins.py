"""Executing a user's Python file that registers methods."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import zlib
from pathlib import Path
from types import ModuleType

from holdfast.config.yaml_file import nearest_file
from holdfast.errors import ConfigError, describe

__all__ = ["load_plugin"]


def load_plugin(file: str, spelled: str = "--plugin") -> ModuleType:
    """Execute a file, whose ``@register`` lines add methods to the catalog.

    Args:
        file: Path of a Python file.
        spelled: How the user calls the option, for errors.

    Raises:
        ConfigError: There is no such file, or it raises; the message names the line.
    """
    path = Path(file)
    if path.is_dir():
        raise ConfigError(f"{spelled} {file}: is a folder; give a Python file.")
    if not path.is_file():
        raise ConfigError(f"{spelled} {file}: no such file.{nearest_file(path, '*.py')}")
    # Stable for a path, so that the same file may be executed again; different for files of one name in two folders.
    name = f"holdfast_plugin_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{spelled} {file}: no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{spelled} {file}, line {_line(error, path)}: {describe(error)}.") from error
    return module


def _line(error: BaseException, path: Path) -> int | str:
    """The deepest line of the file that was being executed."""
    if isinstance(error, SyntaxError) and _is(error.filename, path):
        return error.lineno or "?"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is(frame.filename, path)]
    return (lines[-1] if lines else None) or "?"


def _is(filename: str | None, path: Path) -> bool:
    return filename is not None and Path(filename).absolute() == path.absolute()
