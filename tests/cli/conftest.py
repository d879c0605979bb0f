"""A command line whose training is replaced by a note of what it was asked to do."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast.cli.main import main
from holdfast.run import Run

RESULT = {
    "schema": 1,
    "holdfast": "0.1.0",
    "finished": True,
    "config_hash": "0" * 64,
    "data": {"n_train": 800, "n_val": 90, "n_test": 200, "classes": ["a", "b"], "fingerprint": "f"},
    "model": {"spec": "timm:resnet18", "parameters": 11_000_000, "reference_fingerprint": "r"},
    "train": None,
    "val": {"n": 90, "loss": 0.7, "accuracy": 0.8, "accuracy_ci95": [0.706, 0.87], "macro_f1": 0.79, "nll": 0.7, "ece": 0.05},
    "test": {"n": 200, "loss": 0.8, "accuracy": 0.765, "accuracy_ci95": [0.702, 0.818], "macro_f1": None, "nll": 0.81, "ece": 0.061},
    "selections": [{"by": "val-accuracy", "epoch": 12, "step": 150, "weights": "raw", "val": None, "test": None}],
    "terms": {"cross-entropy": {"weight": 1.0, "last": 0.3}},
    "cost": {
        "device": "cpu",
        "steps": 390,
        "seconds_total": 192.4,
        "seconds_per_step": 0.11,
        "seconds_per_epoch": 6.0,
        "images_per_second": 580.2,
        "peak_memory_mib": 812.4,
    },
}


@dataclass
class Called:
    """What the stub was asked to do, and the events it sends."""

    config: Any = None
    resumed: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    error: BaseException | None = None


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def called(monkeypatch, tmp_path) -> Called:
    """Replace ``holdfast.build``; runs are written below ``tmp_path``, the working directory."""
    noted = Called()
    monkeypatch.chdir(tmp_path)

    def finish(path: str, listener: Callable[[Any], None]) -> Run:
        for event in noted.events:
            listener(event)
        if noted.error is not None:
            raise noted.error
        run = Run.create(path, {})
        run.write_result(RESULT)
        return run

    def fit_config(config, *, listener):
        noted.config = config
        return finish(config.out, listener)

    def resume(run, *, overrides, listener):
        noted.resumed, noted.overrides = run, overrides
        return finish("resumed", listener)

    stub = types.ModuleType("holdfast.build")
    stub.__dict__.update(fit_config=fit_config, resume=resume)
    monkeypatch.setitem(sys.modules, "holdfast.build", stub)
    return noted


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def holdfast(capsys) -> Callable[..., Answer]:
    """Run a command in this process: ``holdfast("fit", "cars/", ...)``."""

    def run(*argv: str) -> Answer:
        status = main(argv)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return run
