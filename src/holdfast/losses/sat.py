"""Self-adaptive training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.losses.example_state import RowUpdates, rows_of
from holdfast.losses.functional import cross_entropy
from holdfast.losses.moving_targets import self_adaptive_loss, self_adaptive_targets
from holdfast.losses.placement import dtype_of
from holdfast.terms import Needs, Scope, TaskLoss
from holdfast.types import Source, Step, Update

__all__ = ["SelfAdaptiveTraining"]


class SelfAdaptiveTraining(TaskLoss):
    """Cross-entropy with targets that leave the labels for the network's own predictions. Huang, Zhang and Zhang, NeurIPS 2020.

    Args:
        momentum: m of the targets.
        start_epoch: Epochs of plain cross-entropy before (E_s).
    """

    NEEDS = Needs(hard_labels=True, index=True)
    SCOPE = Scope.BATCH
    SHARDED = True
    STATE = ("examples", "targets")

    examples: Tensor  # (N,), ranks of the ids of all training examples
    targets: Tensor  # (N, K); zero stands for the one-hot label, as long as an example was not seen

    def __init__(self, *, momentum: float = 0.9, start_epoch: int = 10) -> None:
        super().__init__()
        self.momentum = momentum
        self.start_epoch = start_epoch
        self._updates = RowUpdates()

    def setup(self, source: Source) -> None:
        """Make room for the targets."""
        self.examples = source.index()
        self.targets = torch.zeros(len(self.examples), source.num_classes, dtype=dtype_of(source), device=self.examples.device)

    def loss(self, step: Step) -> Tensor:
        """``-(1/B) Σ_i (w_i B / Σ_j w_j) Σ_k t_ik log p_ik`` with ``w_i = max_k t_ik``; cross-entropy before the start."""
        if step.epoch < self.start_epoch:
            return cross_entropy(step.logits, step.labels).mean()
        rows = rows_of(self.examples, step.index)
        before = self.targets[rows].to(step.logits.dtype)
        unseen = before.sum(dim=1, keepdim=True) == 0
        before = torch.where(unseen, F.one_hot(step.labels, before.shape[1]).to(before.dtype), before)
        targets = self_adaptive_targets(before, step.logits, momentum=self.momentum)
        if step.collect:
            self._updates.add(rows, targets)
        sureness = step.comm.sum(targets.amax(dim=1).mean()) / step.comm.size
        return self_adaptive_loss(step.logits, targets, mean_sureness=sureness)

    def after_step(self, update: Update) -> None:
        """Keep the moved targets."""
        self._updates.apply(self.targets, update.comm)

    def discard_step(self) -> None:
        """Forget the targets of a skipped update."""
        self._updates.clear()
