"""Sums over long vectors."""

from __future__ import annotations

import torch

from holdfast.measures.sums import dot, dots


def test_sums_over_many_pieces_are_exact_to_float64_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(200_001, generator=generator) for _ in range(2))
    expected = (first.double() * second.double()).sum()
    assert dot(first, second).dtype is torch.float64
    torch.testing.assert_close(dot(first, second), expected, rtol=1e-12, atol=0)
    rows = torch.stack([first, second])
    torch.testing.assert_close(dots(rows, second), rows.double() @ second.double(), rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(dots(rows.double(), second.double()), rows.double() @ second.double(), rtol=1e-12, atol=0)


def test_large_and_tiny_numbers_stay_within_range() -> None:
    assert float(dot(torch.full((3,), 1e30), torch.full((3,), 1e30))) > 2.9e60
    assert float(dot(torch.full((3,), 1e-30), torch.full((3,), 1e-30))) > 2.9e-60


def test_no_entries_sum_to_zero() -> None:
    assert float(dot(torch.empty(0), torch.empty(0))) == 0
