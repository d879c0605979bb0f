"""Learning-rate factors as functions of the step."""

from __future__ import annotations

import math

import pytest

from holdfast.schedules import cosine_factor, warmup_factor


def test_linear_warm_up_from_zero_is_the_published_one_bit_for_bit():
    assert [warmup_factor(step, 30) for step in range(30)] == [step / 30 for step in range(30)]
    assert [warmup_factor(step, 30) for step in range(30)] == [cosine_factor(step, 100, warmup_steps=30) for step in range(30)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]),
        ("cosine", [0.2, 0.2 + 0.8 * math.sin(math.pi / 8) ** 2, 0.6, 0.2 + 0.8 * math.sin(3 * math.pi / 8) ** 2, 1.0, 1.0]),
        ("constant", [0.2, 0.2, 0.2, 0.2, 1.0, 1.0]),
    ],
)
def test_warm_up_rises_from_its_start_to_one_in_its_shape(shape, expected):
    assert [warmup_factor(step, 4, shape, 0.2) for step in range(6)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_without_steps_of_warm_up_there_is_none(shape):
    assert warmup_factor(0, 0, shape, 0.5) == 1.0
