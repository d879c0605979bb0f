"""Metrics against their definitions, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from holdfast.training.evaluate import Predictions, measure


def predictions(seed: int, n: int, classes: int, *, scale: float = 2.0, occurring: int | None = None) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator)
    labels = torch.randint(occurring or classes, (n,), generator=generator)
    return Predictions(logits, labels, torch.arange(n))


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson 1927, with the 97.5 % point of the normal distribution."""
    z, share = 1.959963984540054, correct / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that occur of 2 · hits / (predicted + true)."""
    scores = []
    for k in sorted({*predicted.tolist(), *labels.tolist()}):
        hits = ((predicted == k) & (labels == k)).sum()
        scores.append(2 * hits / ((predicted == k).sum() + (labels == k).sum()))
    return float(np.mean(scores))


def calibration_error(probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Σ_b |B_b|/n · |accuracy - confidence| over equal bins of the highest probability."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    number = np.clip((confidence * bins).astype(int), 0, bins - 1)
    return sum(
        float(abs(right[number == b].mean() - confidence[number == b].mean()) * (number == b).mean())
        for b in range(bins)
        if (number == b).any()
    )


@pytest.mark.parametrize(
    "case",
    [predictions(0, 200, 5), predictions(1, 37, 10, occurring=4), predictions(2, 60, 2, scale=0.3), predictions(3, 1, 3)],
    ids=["five classes", "absent classes", "two classes", "one example"],
)
def test_metrics_are_their_definitions(case: Predictions) -> None:
    probs = case.logits.double().softmax(dim=1).numpy()
    labels = case.labels.numpy()
    found = measure(case)
    correct = int((probs.argmax(axis=1) == labels).sum())
    assert found["n"] == len(labels)
    assert found["accuracy"] == correct / len(labels) == case.accuracy
    assert found["accuracy_ci95"] == pytest.approx(wilson(correct, len(labels)), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(macro_f1(probs.argmax(axis=1), labels), abs=1e-6)
    assert found["nll"] == found["loss"] == pytest.approx(-np.log(probs[np.arange(len(labels)), labels]).mean(), rel=1e-9)
    assert found["ece"] == pytest.approx(calibration_error(probs, labels), abs=1e-6)


@pytest.mark.parametrize("right", [True, False])
def test_the_interval_stays_between_0_and_1(right: bool) -> None:
    logits = torch.eye(4) * 8
    labels = torch.arange(4) if right else (torch.arange(4) + 1) % 4
    found = measure(Predictions(logits, labels, torch.arange(4)))
    low, high = found["accuracy_ci95"]
    assert 0.0 <= low <= found["accuracy"] == float(right) <= high <= 1.0
    assert found["macro_f1"] == float(right)


def test_large_logits_keep_their_likelihood() -> None:
    logits: Tensor = torch.tensor([[200.0, 0.0], [0.0, 150.0]])
    assert measure(Predictions(logits, torch.tensor([1, 1]), torch.arange(2)))["nll"] == pytest.approx(100.0)
