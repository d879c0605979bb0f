from __future__ import annotations

import pytest
import torch
from tests.losses.plain_loop import examples, logits_of, started, step

from holdfast.labels.transition import pair
from holdfast.losses.functional import cross_entropy, forward_correction


def test_loss_is_the_mean_over_the_batch_from_the_epoch_it_starts_in() -> None:
    inputs, labels = examples()
    terms = started({"name": "forward", "transition": "pair:0.3", "start_epoch": 1})
    logits = logits_of(terms, inputs)
    assert step(terms, torch.arange(16), lr=0.0) == pytest.approx(float(cross_entropy(logits, labels).mean()), rel=1e-12)
    terms.start_epoch(1)
    expected = forward_correction(logits, labels, torch.as_tensor(pair(3, 0.3)))
    assert step(terms, torch.arange(16)) == pytest.approx(float(expected), rel=1e-12)
