"""The two methods keep holdfast's contract and compute what they say."""

from __future__ import annotations

import pytest
import torch
from holdfast_example.brier import Brier, brier_score
from holdfast_example.logit_norm import LogitNorm, logit_norm

from holdfast.testing import check_loss, check_regularizer


@pytest.mark.parametrize("centred", [False, True])
def test_logit_norm_keeps_the_contract(centred):
    check_regularizer(LogitNorm(centred=centred))


def test_brier_keeps_the_contract():
    check_loss(Brier())


def test_logit_norm_is_a_mean_over_examples_and_classes():
    logits = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    assert logit_norm(logits).item() == (1 + 9 + 0 + 4) / 4
    assert logit_norm(logits, centred=True).item() == 1.0


def test_brier_score_of_two_classes():
    logits = torch.tensor([[0.0, 0.0], [50.0, 0.0], [50.0, 0.0]])
    torch.testing.assert_close(brier_score(logits, torch.tensor([0, 0, 1])), torch.tensor([0.5, 0.0, 2.0]))
