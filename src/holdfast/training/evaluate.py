"""Predictions on a split, and the metrics of a result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

from holdfast.distributed import gather_objects
from holdfast.losses.functional import cross_entropy
from holdfast.models.classifier import Classifier
from holdfast.training.engine import Engine
from holdfast.types import Batch

__all__ = ["Predictions", "measure", "predict_batches"]


class Predictions:
    """Logits (N, K), labels (N,) and example ranks (N,) of a split, on the host, in the order of the ranks."""

    def __init__(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        self.logits = logits
        self.labels = labels
        self.index = index

    @property
    def accuracy(self) -> float:
        """Share of examples whose largest logit is their label."""
        return float((self.logits.argmax(dim=1) == self.labels).double().mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(cross_entropy(self.logits.double(), self.labels).mean())


def predict_batches(classifier: Classifier, batches: Iterable[Batch], engine: Engine, num_classes: int) -> Predictions:
    """Evaluate a network in eval mode, over all ranks' shares; its training mode and the random states are restored."""
    was_training = classifier.training
    classifier.eval()
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        # A network of one's own may draw numbers in eval mode too; how often it is evaluated must not change its training.
        with torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []), torch.no_grad(), engine.autocast():
            for batch, counts in engine.in_step(batches):
                logits = classifier(batch.inputs).logits[:, :num_classes]
                if counts:
                    rows.append((logits.float().cpu(), batch.labels.cpu(), batch.index.cpu()))
    finally:
        classifier.train(was_training)
    own = Predictions(*(torch.cat(column) for column in zip(*rows, strict=True))) if rows else _empty(num_classes)
    parts = gather_objects((own.logits, own.labels, own.index), engine.comm)
    if len(parts) == 1:
        return own
    return Predictions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _empty(num_classes: int) -> Predictions:
    none = torch.empty(0, dtype=torch.int64)
    return Predictions(torch.empty(0, num_classes), none, none)


def measure(predictions: Predictions) -> dict[str, Any]:
    """The metrics of one split: n, loss, accuracy with its 95 % Wilson interval, macro-F1, NLL (nats) and ECE (15 bins).

    Macro-F1 averages over the classes that occur among the labels or predictions.
    """
    logits, labels = predictions.logits, predictions.labels
    classes = logits.shape[1]
    correct = int((logits.argmax(dim=1) == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(confidence_level=0.95, method="wilson")
    probs = logits.softmax(dim=1)
    return {
        "n": len(labels),
        "loss": predictions.loss,
        "accuracy": correct / len(labels),
        "accuracy_ci95": [float(interval.low), float(interval.high)],
        # torchmetrics averages in float32, which can end up just above 1.
        "macro_f1": min(1.0, float(multiclass_f1_score(probs, labels, num_classes=classes, average="macro"))),
        "nll": predictions.loss,
        "ece": float(multiclass_calibration_error(probs, labels, num_classes=classes, n_bins=15)),
    }
