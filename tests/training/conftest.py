"""Images and a way to train on them, for all tests of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.rank_runs import TwoRanks, shared_folder, train_by_two_ranks
from tests.training.small_runs import OPTIONS, write_images

import holdfast
from holdfast.run import Run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with split folders; not to be changed."""
    return write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="session")
def two_ranks(images: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoRanks:
    """What two ranks have trained on them."""
    return train_by_two_ranks(images, shared_folder(tmp_path_factory))


@pytest.fixture
def fit(images: Path, tmp_path: Path) -> Callable[..., Run]:
    """Train on the small images: ``fit("name", method="fnp")`` writes a run directory of that name."""

    def train(name: str = "run", **options: Any) -> Run:
        return holdfast.fit(**{"data": images, **OPTIONS, **options, "out": tmp_path / name})

    return train


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Training sets these for the process; the next test starts from torch's own."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.set_num_threads(1)
