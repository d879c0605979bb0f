"""Networks for the tests of the models room."""

from __future__ import annotations

import pytest
from tests.models.families import FAMILIES, load_family

from holdfast.models.load import Pretrained


@pytest.fixture(params=FAMILIES)
def pretrained(request: pytest.FixtureRequest) -> Pretrained:
    return load_family(request.param)
