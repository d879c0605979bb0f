"""Early-learning regularization."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.losses.example_state import RowUpdates, rows_of
from holdfast.losses.functional import cross_entropy
from holdfast.losses.moving_targets import early_learning_regularization, early_learning_targets
from holdfast.losses.per_example import weighted_mean
from holdfast.losses.placement import dtype_of
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Source, Step, Update

__all__ = ["EarlyLearning"]


class EarlyLearning(TaskLoss):
    """Cross-entropy, and a term that holds each example to a running mean of its own predictions. Liu et al., NeurIPS 2020.

    Targets are those of the release: they move before the loss is taken, and hold still in it.

    Args:
        momentum: β of the running means.
    """

    NEEDS = Needs(hard_labels=True, weights=True, index=True)
    SHARDED = True
    STATE = ("examples", "targets")

    examples: Tensor  # (N,), ranks of the ids of all training examples
    targets: Tensor  # (N, K), zero at the start

    def __init__(self, *, momentum: float = 0.7) -> None:
        super().__init__()
        self.momentum = momentum
        self._updates = RowUpdates()

    def setup(self, source: Source) -> None:
        """Begin with targets of zero."""
        self.examples = source.index()
        self.targets = torch.zeros(len(self.examples), source.num_classes, dtype=dtype_of(source), device=self.examples.device)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``cross-entropy`` and ``regularization``, the means of ``CE(z_i, y_i)`` and of ``ln(1 - ⟨t_i, p_i⟩)``."""
        rows = rows_of(self.examples, step.index)
        targets = early_learning_targets(self.targets[rows].to(step.logits.dtype), step.logits, momentum=self.momentum)
        if step.collect:
            self._updates.add(rows, targets)
        regularization = early_learning_regularization(step.logits, targets, reduction="none")
        losses = cross_entropy(step.logits, step.labels)
        return {"cross-entropy": weighted_mean(losses, step.weights), "regularization": weighted_mean(regularization, step.weights)}

    def after_step(self, update: Update) -> None:
        """Keep the moved targets."""
        self._updates.apply(self.targets, update.comm)

    def discard_step(self) -> None:
        """Forget the targets of a skipped update."""
        self._updates.clear()
