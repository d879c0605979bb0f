"""What else than its accuracy and loss on the labels of validation may choose an epoch, where those labels are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast.config.schema import FitConfig
from holdfast.data import RunData
from holdfast.errors import DataError
from holdfast.labels.report import corrected_accuracy
from holdfast.labels.transition import Matrix, inverse, read_transition, refusal
from holdfast.training.evaluate import Predictions

__all__ = ["Criterion", "further_criteria"]

Criterion = Callable[[Predictions], float]
"""From predictions on validation to a number, larger being better."""


def further_criteria(config: FitConfig, data: RunData) -> Mapping[str, Criterion]:
    """Criteria of a run by the words of ``--select``.

    ``val-corrected`` is there where a transition matrix is known that can be inverted: an unbiased estimate of the accuracy on the true
    labels, from the noisy ones. ``clean-val`` is there where the labels of validation differ from the truth that the data tells: it is
    for comparison, and no run is chosen by it.

    Raises:
        DataError: The run is to be selected by ``val-corrected``, and its matrix cannot be inverted.
    """
    if not data.has("val"):
        return {}
    found: dict[str, Criterion] = {}
    matrix = _matrix(config, len(data.classes))
    if matrix is not None:
        found["val-corrected"] = _corrected(inverse(matrix))
    truth = data.true_labels("val")
    if truth is not None and (truth >= 0).any() and (truth != data.labels("val")).any():
        found["clean-val"] = _clean(data)
    return found


def _matrix(config: FitConfig, num_classes: int) -> Matrix | None:
    if config.matrix is None:
        return None
    matrix = read_transition(config.matrix, num_classes, name="--transition")
    problem = refusal(matrix)
    if problem is not None and config.select == "val-corrected":
        raise DataError(f"--select val-corrected: {problem}; select by val-accuracy, or type --select last")
    return matrix if problem is None else None


def _corrected(inverted: Matrix) -> Criterion:
    return lambda predictions: corrected_accuracy(inverted, predictions.labels.numpy(), predictions.logits.argmax(dim=1).numpy())


def _clean(data: RunData) -> Criterion:
    """Accuracy on the true labels, of the examples of which they are known."""
    truth = data.true_labels("val")
    assert truth is not None

    def accuracy(predictions: Predictions) -> float:
        known = truth >= 0
        return float((predictions.logits.argmax(dim=1).numpy() == truth)[known].mean())

    return accuracy
