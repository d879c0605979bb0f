"""BSS as a method: batches that are too short, and ranks."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import attach
from holdfast.attach import Attached
from holdfast.regularizers.bss import BatchSpectralShrinkage
from holdfast.regularizers.functional import batch_spectral_shrinkage
from holdfast.testing import SmallNet


def attached(net: SmallNet, **options: Any) -> Attached:
    return attach(net, [{"name": "bss", **options}], num_classes=3)


def test_a_single_row_has_no_penalty_and_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    net = SmallNet(3)
    terms = attached(net, weight=1e6)
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        for _ in range(2):
            terms.loss(torch.ones(1, 6), torch.tensor([0])).backward()
            terms.after_step()
    assert terms.values["bss"] == 0.0
    other = SmallNet(3)
    for _ in range(2):
        attach(other, "plain", num_classes=3).loss(torch.ones(1, 6), torch.tensor([0])).backward()
    for mine, plain in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, plain.grad, rtol=0, atol=0)
    assert [record.message for record in caplog.records] == [
        "bss: the only singular value of a single row is its norm, so the penalty of such a batch is 0."
    ]


def test_more_singular_values_than_there_are_means_all_and_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    net = SmallNet(3)
    terms = attached(net, k=9)
    inputs = torch.randn(4, 6)
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        for _ in range(2):
            terms.loss(inputs, torch.zeros(4, dtype=torch.int64))
            terms.after_step()
    assert terms.values["bss"] == pytest.approx(net.body(inputs).square().sum().item(), rel=1e-5)
    assert [record.message for record in caplog.records] == ["bss: k is 9, but features (4, 5) have 4 singular values; all are shrunk."]


class TwoRanks:
    """This rank's rows are the first half."""

    size = 2

    def __init__(self, others: Tensor) -> None:
        self.others = others

    def gather(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, self.others])


def test_the_spectrum_is_that_of_all_ranks_unless_it_is_not_gathered() -> None:
    rows, others = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    step: Any = SimpleNamespace(features={"pooled": rows}, comm=TwoRanks(others))
    assert torch.equal(BatchSpectralShrinkage(k=2).penalty(step), batch_spectral_shrinkage(torch.cat([rows, others]), k=2))
    assert torch.equal(BatchSpectralShrinkage(k=2, gather=False).penalty(step), batch_spectral_shrinkage(rows, k=2))


def test_one_row_on_each_of_two_ranks_is_a_batch_of_two() -> None:
    rows, others = torch.randn(1, 6), torch.randn(1, 6)
    step: Any = SimpleNamespace(features={"pooled": rows}, comm=TwoRanks(others))
    assert torch.equal(BatchSpectralShrinkage().penalty(step), batch_spectral_shrinkage(torch.cat([rows, others])))
    assert BatchSpectralShrinkage().penalty(step) > 0
