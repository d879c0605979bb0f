"""Generalized cross-entropy."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from holdfast.losses.bounded_losses import gce_of_log
from holdfast.losses.example_state import RowUpdates, rows_of
from holdfast.losses.per_example import entry_of_label, log_probs, weighted_mean
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Source, Step, Update

__all__ = ["GeneralizedCrossEntropy"]


class GeneralizedCrossEntropy(TaskLoss):
    """``(1 - p_y^q) / q``, between cross-entropy and mean absolute error; with ``truncate``, examples that do not fit are left out.

    Zhang and Sabuncu, NeurIPS 2018. Which examples are left out is found where they do: at p_y at or below ``truncate`` the loss is a
    constant. The release evaluates all of the training split for it every tenth epoch; here an example is judged by the latest training
    pass over it in an epoch that is due, and the verdict holds until the next.

    Args:
        q: From 0, which is cross-entropy, to 1.
        truncate: k, 0 for none.
        prune_start: Epochs before any example is left out.
        prune_every: Epochs from one judgement to the next.
    """

    SHARDED = True
    STATE = ("examples", "kept")

    examples: Tensor | None  # (N,), ranks of the ids of all training examples, only with truncation
    kept: Tensor | None  # (N,) bool

    def __init__(self, *, q: float = 0.7, truncate: float = 0.0, prune_start: int = 10, prune_every: int = 1) -> None:
        super().__init__()
        self.q = q
        self.truncate = truncate
        self.prune_start = prune_start
        self.prune_every = prune_every
        self.NEEDS = Needs(hard_labels=True, weights=True, index=truncate > 0)
        self._updates = RowUpdates()

    def setup(self, source: Source) -> None:
        """Begin with every example."""
        if self.truncate:
            self.examples = source.index()
            self.kept = torch.ones(len(self.examples), dtype=torch.bool, device=self.examples.device)

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i (v_i (1 - p_i[y_i]^q)/q + (1 - v_i) (1 - k^q)/q)``, with ``v_i = 0`` for examples that are left out."""
        logs = entry_of_label(log_probs(step.logits), step.labels)
        losses = gce_of_log(logs, self.q)
        if self.examples is not None and self.kept is not None:
            rows = rows_of(self.examples, step.index)
            if step.epoch >= self.prune_start:
                losses = torch.where(self.kept[rows], losses, gce_of_log(logs.new_tensor(math.log(self.truncate)), self.q))
            if step.collect and self._is_due(step.epoch):
                self._updates.add(rows, logs > math.log(self.truncate))
        return weighted_mean(losses, step.weights)

    def _is_due(self, epoch: int) -> bool:
        """The epoch before the first that leaves examples out, and every so many from there."""
        return epoch >= self.prune_start - 1 and (epoch - self.prune_start + 1) % self.prune_every == 0

    def after_step(self, update: Update) -> None:
        """Take over the verdicts of this step."""
        if self.kept is not None:
            self._updates.apply(self.kept, update.comm)

    def discard_step(self) -> None:
        """Forget the verdicts of a skipped update."""
        self._updates.clear()

    def metrics(self) -> dict[str, Tensor | float]:
        """The share of training examples that are not left out, with truncation."""
        return {} if self.kept is None else {"kept": self.kept.double().mean()}
