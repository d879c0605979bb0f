"""Small runs to audit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.training.conftest import _settings_of_torch, images
from tests.training.small_runs import OPTIONS

import holdfast
from holdfast.run import Run

__all__ = ["_settings_of_torch", "images"]


@pytest.fixture(scope="session")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of 18 training images, at a place where the loss is convex in most directions; only its audit may be written."""
    return holdfast.fit(
        **{"data": images, **OPTIONS, "epochs": 12, "lr": 0.3, "seed": 5, "out": tmp_path_factory.mktemp("finished") / "tiny"}
    )
