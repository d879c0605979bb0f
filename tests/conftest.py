"""What every test gets: no downloads, one thread, no leaked environment, and where golden vectors and real data are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["HOLDFAST_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")

import pytest
import torch

from holdfast.catalog import METHODS

ROOT = Path(__file__).resolve().parents[1]

LONG_KINDS = ("slow", "ranks", "real", "browser")
"""Markers that a bare ``pytest`` leaves out; ``make test`` runs them."""

SET_BY_LIBRARIES = {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PYTEST_CURRENT_TEST", "KMP_INIT_AT_FORK", "CUDA_MODULE_LOADING"}
SET_BY_LIBRARIES |= {"_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR", "KMP_DUPLICATE_LIB_OK"}
SET_BY_LIBRARIES |= {"PYTHONBREAKPOINT", "RAY_CLIENT_MODE"}
"""Variables that pytest, torch, scikit-learn and Ray change while they work."""

collect_ignore_glob = ["plugins/*"]  # files that a test loads as a user would; importing them here would register their methods


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long kinds out of a bare ``pytest``; ``-m``, ``-k``, a folder, a file or a test runs all that it names."""
    whole = {ROOT, ROOT / "tests", ROOT / "src" / "holdfast"}
    named = [argument for argument in config.args if Path(argument).resolve() not in whole]
    if config.option.markexpr or config.option.keyword or named:
        return
    long = [item for item in items if any(item.get_closest_marker(kind) for kind in LONG_KINDS)]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def _no_leaked_environment() -> Iterator[None]:
    """Fail the test that leaves the environment changed, and put it back for the next one."""
    before = dict(os.environ)
    yield
    names = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
    leaked = sorted(names - SET_BY_LIBRARIES)
    for name in leaked:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
    if leaked:
        pytest.fail(f"the test leaves environment variables changed: {', '.join(leaked)}; use monkeypatch.setenv")


@pytest.fixture
def own_catalog() -> Iterator[None]:
    """Methods that the test registers, and modules of its plug-ins, are gone after it."""
    methods, modules = dict(METHODS), set(sys.modules)
    yield
    METHODS.clear()
    METHODS.update(methods)
    for name in set(sys.modules) - modules:
        if name.startswith("holdfast_plugin_"):
            del sys.modules[name]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors are fastest on one thread, and results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _global_seed() -> None:
    """Each test starts from the same global random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    """A function that makes a CPU generator from a seed."""
    return lambda seed: torch.Generator().manual_seed(seed)


def _folder(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / name)).resolve()
    if not path.is_dir():
        pytest.skip(f"{name} not found: set {variable} to its folder")
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the golden vectors, from ``HOLDFAST_GOLDEN``."""
    return _folder("HOLDFAST_GOLDEN", "golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real datasets, from ``HOLDFAST_DATA``."""
    return _folder("HOLDFAST_DATA", "data")
