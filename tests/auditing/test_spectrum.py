"""When the trace of the positive part counts as known."""

from __future__ import annotations

import pytest
import torch

from holdfast.auditing.spectrum import positive_trace
from holdfast.measures.spectrum import spectral_density

VALUES = torch.linspace(-1, 2, 40, dtype=torch.float64)
START = torch.linspace(1, 2, 40, dtype=torch.float64)


def test_recursions_that_agree_are_not_enough_where_they_are_short():
    # Twice the same start leaves no error of the random vectors; what is left is that of the recursion.
    short, whole = (positive_trace(spectral_density(torch.diag(VALUES), steps=steps, starts=[START, START]), 1e-3) for steps in (6, 40))
    assert short["stderr"] == whole["stderr"] == 0
    assert abs(short["value"] - whole["value"]) > 1e-3 * whole["value"]
    assert (short["met"], whole["met"]) == (False, True)


def test_random_vectors_that_differ_are_not_enough_either():
    found = spectral_density(torch.diag(VALUES), steps=40, starts=[START, START.flip(0)])
    assert found.change_of(lambda values: values.clip(min=0)) == pytest.approx(0, abs=1e-4)
    assert not positive_trace(found, 0.01)["met"]
    assert positive_trace(found, 10.0)["met"]
