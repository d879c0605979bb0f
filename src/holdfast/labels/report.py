"""What a model did with wrong labels, where the truth is known: corrected, memorised, or something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.errors import ShapeError
from holdfast.labels.arrays import FloatArray, check_label_array
from holdfast.labels.injection import empirical_transition

__all__ = ["NoiseReport", "corrected_accuracy", "noise_report"]


@dataclass(frozen=True)
class NoiseReport:
    """Shares of training examples; NaN where there are none to take a share of.

    Args:
        noise_rate: Labels that are wrong.
        noisy_accuracy: Predictions that are the observed label.
        clean_accuracy: Predictions that are the true one.
        corrected: Of the wrongly labelled, predictions that are the true class.
        memorised: Of the wrongly labelled, predictions that are the wrong label.
        other: Of the wrongly labelled, all other predictions; the three sum to 1.
        rightly_labelled: Of the rightly labelled, predictions that are right.
        transition: Empirical F (K, K).
    """

    noise_rate: float
    noisy_accuracy: float
    clean_accuracy: float
    corrected: float
    memorised: float
    other: float
    rightly_labelled: float
    transition: FloatArray


def noise_report(true: Any, observed: Any, predicted: Any, num_classes: int) -> NoiseReport:
    """Compare predictions (N,) with true and with observed labels (N,).

    Raises:
        ShapeError: The three are not of one length.
    """
    y, noisy, guess = (check_label_array(labels, num_classes) for labels in (true, observed, predicted))
    if not len(y) == len(noisy) == len(guess):
        raise ShapeError(f"true, observed and predicted must be of one length, got {len(y)}, {len(noisy)} and {len(guess)}.")
    wrong = noisy != y
    return NoiseReport(
        noise_rate=_share(wrong),
        noisy_accuracy=_share(guess == noisy),
        clean_accuracy=_share(guess == y),
        corrected=_share((guess == y)[wrong]),
        memorised=_share((guess == noisy)[wrong]),
        other=_share(((guess != y) & (guess != noisy))[wrong]),
        rightly_labelled=_share((guess == y)[~wrong]),
        transition=empirical_transition(y, noisy, num_classes),
    )


def corrected_accuracy(inverse: FloatArray, observed: Any, predicted: Any) -> float:
    """Clean accuracy estimated from noisy labels alone: the mean of ``R[observed, predicted]``; unbiased, and may leave [0, 1].

    Args:
        inverse: R (K, K), the inverse of the transition matrix.
        observed: Noisy labels (N,).
        predicted: Predicted classes (N,).
    """
    return float(inverse[np.asarray(observed), np.asarray(predicted)].mean())


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
