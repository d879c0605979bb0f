"""Packages as an installer leaves them, made in a folder without one: modules, and metadata beside them."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parent / "plugins" / "example_package"

GROUP = "holdfast.regularizers"

PULL = """
from holdfast.catalog import register


@register("pull", summary="pulls", weight=0.25)
class Pull:
    def __init__(self, *, strength: float = 2.0) -> None:
        self.strength = strength

    def penalty(self, step):
        return 0.0
"""
"""A module that registers the method ``pull``."""


def write_package(site: Path, name: str, methods: Mapping[str, str], modules: Mapping[str, str], version: str = "1.0") -> Path:
    """A package with entry points ``methods`` (name to module) and ``modules`` (name to code); ``site`` then goes on the path."""
    for module, code in modules.items():
        file = site / f"{module.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
    _write_metadata(site, name, version, methods)
    return site


def install_example(site: Path) -> Path:
    """The example package, with the metadata that its own pyproject.toml asks for."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(EXAMPLE / "src", site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _write_metadata(site, project["name"], project["version"], project["entry-points"][GROUP])
    return site


def _write_metadata(site: Path, name: str, version: str, methods: Mapping[str, str]) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *(f"{method} = {target}" for method, target in methods.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
