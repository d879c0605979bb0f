"""Small image folders, made afresh for each test."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.types import InputSpec

SPEC = InputSpec(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


@pytest.fixture
def spec() -> InputSpec:
    """What the networks of these tests expect."""
    return SPEC


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """A function (seed, height, width) that makes random RGB pixels (H, W, 3)."""
    return lambda seed, height=20, width=24: np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Callable[[Mapping[str, int]], Path]:
    """A function that writes PNG images, all different, so many in each subfolder, and returns the root."""

    def make(counts: Mapping[str, int]) -> Path:
        seed = 0
        root = tmp_path / "data"
        for name, count in counts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.fromarray(noise(seed, 18 + seed % 5, 20 + seed % 7)).save(root / name / f"{number:03d}.png")
                seed += 1
        return root

    return make


@pytest.fixture
def load() -> Callable[..., RunData]:
    """``load_data`` with the options given by keyword."""
    return functools.partial(_load, SPEC)


def _load(spec: InputSpec, data: Path | str, **options: object) -> RunData:
    return load_data(FitConfig(data=str(data), **options), spec)  # type: ignore[arg-type]
