"""Small runs from one start: three seeds of plain fine-tuning, two of LP-FT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.training.small_runs import OPTIONS, tiny_network, write_images

import holdfast
from holdfast.run import Run

Make = Callable[..., Run]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A run from the same pretrained weights on the same images: ``make_run("name", seed=1)``."""
    folder = tmp_path_factory.mktemp("averaging")
    images = write_images(folder / "data")
    torch.manual_seed(5)
    safetensors.torch.save_file(tiny_network().state_dict(), folder / "start.safetensors")

    def make(name: str, **options: Any) -> Run:
        given = {**OPTIONS, "weights": folder / "start.safetensors", "method": "plain", "lr": 0.1, "epochs": 3, **options}
        return holdfast.fit(**{"data": images, **given, "out": folder / name})

    return make


@pytest.fixture(scope="session")
def plain(make_run: Make) -> list[Run]:
    """Three seeds; not to be changed."""
    return [make_run(f"plain{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="session")
def probed(make_run: Make) -> list[Run]:
    """Two seeds of LP-FT, whose heads began alike; not to be changed."""
    return [make_run(f"lp-ft{seed}", seed=seed, recipe="lp-ft") for seed in range(2)]
