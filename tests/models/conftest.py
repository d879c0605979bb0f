"""Networks for the tests of the models room."""

from __future__ import annotations

import pytest
import torch
from tests.models.families import FAMILIES, load_family

from holdfast.models.load import Pretrained


@pytest.fixture
def fresh_compiler() -> None:
    """torch.compile keeps no more than eight forms of one function in a process, and then runs it as it is."""
    torch.compiler.reset()


@pytest.fixture(params=FAMILIES)
def pretrained(request: pytest.FixtureRequest) -> Pretrained:
    return load_family(request.param)
