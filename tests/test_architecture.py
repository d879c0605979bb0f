"""Who may import whom: the import table, compared with the syntax trees of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "holdfast"

FOR_ALL = ("errors", "types", "checks")
"""What every room may import."""

ANYTHING = ("*",)
ALL_BUT_CLI = ("*", "-cli")

TABLE: dict[str, tuple[str, ...]] = {
    "errors": (),
    "types": (),
    "checks": (),
    "terms": (),
    "schedules": (),
    "entry_points": (),
    "catalog": ("entry_points",),
    "run": (),
    "distributed": (),
    "config": ("catalog",),
    "data": (),
    "models": (),
    "regularizers": ("terms", "models.select", "models.shards", "schedules"),
    "losses": ("terms", "models.select", "schedules", "labels.transition"),
    "labels": ("data", "models", "run"),
    "transforms": ("terms",),
    "objective": ("terms", "models"),
    "step": ("terms", "models", "objective"),
    "attach": ("terms", "models", "objective", "step", "distributed", "catalog"),
    "measures": ("run", "models", "data"),
    "training": (
        "objective",
        "step",
        "attach",
        "terms",
        "losses.functional",
        "config.schema",
        "data",
        "models",
        "distributed",
        "run",
        "schedules",
        "report.records",
        "labels.report",
        "labels.transition",
    ),
    "planning": ALL_BUT_CLI,
    "build": ALL_BUT_CLI,
    "parts": ALL_BUT_CLI,
    "recorded": ALL_BUT_CLI,
    "recipes": ALL_BUT_CLI,
    "auditing": ALL_BUT_CLI,
    "wording": (),
    "compare": ALL_BUT_CLI,
    "averaging": ALL_BUT_CLI,
    "report": ("run", "wording", "auditing.record", "compare.record", "compare.record_file", "averaging.record", "averaging.words"),
    "requirements": ALL_BUT_CLI,
    "testing": ALL_BUT_CLI,
    "predict": ALL_BUT_CLI,
    "api": ALL_BUT_CLI,
    "demo": ALL_BUT_CLI,
    "cli": ANYTHING,
    # The package itself: the public names, resolved on first use.
    "__init__": ALL_BUT_CLI,
    "__main__": ("cli",),
}
"""For each room, the modules of other rooms it may import. A row is added in the commit that opens a room."""

TORCH_FREE = (
    *("errors", "entry_points", "catalog", "checks", "config", "run", "report", "wording", "schedules", "labels.transition"),
    *("auditing.options", "auditing.events", "auditing.record", "auditing.result"),
    *("compare.cells", "compare.driver", "compare.summary", "compare.output"),
    "averaging.record",
    "averaging.words",
)
"""Rooms that may not bring torch with them: help, lists and bad options answer without it."""


class Import(NamedTuple):
    """One import of a holdfast module: where it stands, and what it names below ``holdfast``, '' being the package itself."""

    path: Path
    line: int
    module: str


def modules_in(package: Path) -> set[str]:
    """Dotted names of all modules below ``package``."""
    names = set()
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def imports_of(path: Path, package: Path, modules: set[str]) -> Iterator[Import]:
    """Every import of the package in a file, wherever it stands, relative ones resolved."""
    inside = (package.name, *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else ()
            start = ".".join([*base, *(node.module.split(".") if node.module else [])])
            below = {alias.name: f"{start}.{alias.name}" for alias in node.names}
            # `from holdfast.models import select` names a module, `from holdfast.models import Classifier` an object of one.
            named = [full if full.removeprefix(f"{package.name}.") in modules else start for full in below.values()]
        else:
            continue
        for name in dict.fromkeys(named):
            if name == package.name or name.startswith(f"{package.name}."):
                yield Import(path, node.lineno, name.removeprefix(package.name).removeprefix("."))


def allowed(room: str, module: str, table: dict[str, tuple[str, ...]]) -> bool:
    """Whether ``room`` may import ``module``: its own, what all may, and what its row names with everything below it."""
    row = table[room]
    target = module.partition(".")[0]
    if target == room or target in FOR_ALL:
        return True
    if not module:
        return room == "cli"  # the package's own face is for users, and for the command line that stands in for them
    if f"-{target}" in row:
        return False
    return "*" in row or any(module == entry or module.startswith(f"{entry}.") for entry in row)


def violations(package: Path, table: dict[str, tuple[str, ...]]) -> list[str]:
    """One line for each import that the table does not allow, and for each room without a row."""
    found = []
    modules = modules_in(package)
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parts[0].removesuffix(".py")
        if room not in table:
            found.append(f"{relative}: the room '{room}' has no row in the import table")
            continue
        for entry in imports_of(path, package, modules):
            if not allowed(room, entry.module, table):
                target = ".".join(filter(None, (package.name, entry.module)))
                may = ", ".join((*FOR_ALL, *table[room]))
                found.append(f"{relative}:{entry.line}: imports {target}; '{room}' may import {may}")
    return found


def test_imports_follow_the_table():
    found = violations(PACKAGE, TABLE)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("room", TORCH_FREE)
def test_room_brings_no_torch_with_it(room):
    names = sorted(f"holdfast.{module}" for module in modules_in(PACKAGE) if f"{module}.".startswith(f"{room}."))
    code = f"import {', '.join(names)}, sys; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, f"importing {', '.join(names)}: {process.stderr}"


@pytest.fixture
def planted(tmp_path):
    """A package of two rooms and a function that puts a file into it and returns what the walker finds."""
    package = tmp_path / "house"
    for name in ("kitchen/__init__.py", "cellar/__init__.py", "cellar/shelf.py", "errors.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()

    def plant(code, row=(), name="kitchen/stove.py"):
        (package / name).write_text(code)
        return violations(package, {"kitchen": row, "cellar": (), "errors": ()})

    return plant


@pytest.mark.parametrize(
    "code",
    [
        "import house.cellar.shelf",
        "from house.cellar.shelf import wine",
        "from house.cellar import shelf",
        "from ..cellar import shelf",
        "from ..cellar.shelf import wine",
        "def cook():\n    from house.cellar.shelf import wine",
        "class Stove:\n    import house.cellar.shelf as shelf",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.cellar.shelf import wine",
    ],
)
def test_walker_finds_an_import_however_it_is_written(planted, code):
    (message,) = planted(code)
    line = len(code.splitlines())
    assert message == f"kitchen/stove.py:{line}: imports house.cellar.shelf; 'kitchen' may import errors, types, checks"


@pytest.mark.parametrize("row", [("cellar",), ("cellar.shelf",), ("*",)])
def test_walker_lets_pass_what_the_row_names(planted, row):
    assert planted("from house.cellar.shelf import wine\nfrom ..cellar import shelf", row) == []


@pytest.mark.parametrize("row", [(), ("cellar.shel",), ("shelf",), ("*", "-cellar")])
def test_walker_refuses_what_the_row_does_not_name(planted, row):
    assert len(planted("import house.cellar.shelf", row)) == 1


def test_a_row_for_one_module_does_not_open_the_room(planted):
    assert len(planted("import house.cellar", ("cellar.shelf",))) == 1


def test_walker_lets_pass_own_room_errors_and_strangers(planted):
    code = """
import houseboat
import torch
from house.errors import E
from house.kitchen import pan
from . import pan
from .. import errors
"""
    assert planted(code) == []


def test_walker_finds_the_package_itself(planted):
    assert planted("from house import Public") == ["kitchen/stove.py:1: imports house; 'kitchen' may import errors, types, checks"]


def test_a_room_without_a_row_is_found(planted):
    assert planted("", name="attic.py") == ["attic.py: the room 'attic' has no row in the import table"]
