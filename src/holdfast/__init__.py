"""Fine-tune a pretrained network without letting go of what it knows, and say how far the result can be trusted."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.api import fit, load, plan, report
    from holdfast.attach import attach
    from holdfast.auditing.audit import audit
    from holdfast.averaging.average import average
    from holdfast.catalog import register
    from holdfast.compare.driver import compare
    from holdfast.run import Run
    from holdfast.terms import Needs, Regularizer, Scope, TaskLoss

    __version__: str

__all__ = [
    "Needs",
    "Regularizer",
    "Run",
    "Scope",
    "TaskLoss",
    "__version__",
    "attach",
    "audit",
    "average",
    "compare",
    "fit",
    "load",
    "plan",
    "register",
    "report",
]

_HOME = {
    "Run": "holdfast.run",
    "fit": "holdfast.api",
    "load": "holdfast.api",
    "plan": "holdfast.api",
    "report": "holdfast.api",
    "attach": "holdfast.attach",
    "audit": "holdfast.auditing.audit",
    "average": "holdfast.averaging.average",
    "compare": "holdfast.compare.driver",
    "register": "holdfast.catalog",
    "Needs": "holdfast.terms",
    "Regularizer": "holdfast.terms",
    "Scope": "holdfast.terms",
    "TaskLoss": "holdfast.terms",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that ``import holdfast`` does not import torch."""
    if name == "__version__":
        return _version()
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'holdfast' has no attribute {name!r}")


def _version() -> str:
    try:
        return metadata.version("holdfast")
    except metadata.PackageNotFoundError:  # a source tree on the path
        return "(not installed)"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package: ``holdfast.attach`` is the function, although a module of that name exists."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds an imported submodule to its package, which would hide the function of the same name.
        if name in _HOME and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
