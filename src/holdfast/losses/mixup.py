"""Mixup."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from holdfast.losses.mixing import mix_rows
from holdfast.losses.per_example import entry_of_label, log_probs
from holdfast.terms import Scope, TaskLoss
from holdfast.types import Batch, Comm, Draws, Step

__all__ = ["Mixup"]


class Mixup(TaskLoss):
    """Cross-entropy on pairs of examples mixed with each other, inputs and labels alike. Zhang et al., ICLR 2018.

    One order of partners and one share for each batch; on several ranks partners come from the whole batch. Other terms see the mixed
    examples, with soft targets.

    Args:
        alpha: Both parameters of the Beta distribution of the share.
    """

    SCOPE = Scope.BATCH
    SHARDED = True

    def __init__(self, *, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = alpha

    def prepare(self, batch: Batch, draws: Draws, comm: Comm, num_classes: int) -> Batch:
        """Mix the inputs, and make the targets soft."""
        generator, device = draws.shared(), batch.labels.device
        share = self._share(generator)
        everyone = comm.gather(batch.inputs) if isinstance(batch.inputs, Tensor) else batch.inputs
        targets = F.one_hot(batch.labels, num_classes).to(torch.float32) if batch.targets is None else batch.targets
        start = comm.rank * len(batch)
        order = torch.randperm(comm.size * len(batch), generator=generator)[start : start + len(batch)].to(device)
        inputs = mix_rows(batch.inputs, everyone[order] if isinstance(everyone, Tensor) else everyone, share)
        return replace(batch, inputs=inputs, targets=comm.gather(targets)[order].lerp(targets, share))

    def _share(self, generator: torch.Generator) -> float:
        """λ ~ Beta(α, α)."""
        uniform = float(torch.rand((), generator=generator, dtype=torch.float64))
        return float(betaincinv(self.alpha, self.alpha, uniform))

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i λ CE(z_i, y_i) + (1 - λ) CE(z_i, y_π(i))``, which is cross-entropy with the mixed targets."""
        labels = step.labels if step.targets is None else step.targets
        return -entry_of_label(log_probs(step.logits), labels).mean()
