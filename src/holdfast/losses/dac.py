"""Deep abstaining classifier."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.losses.abstention import abstention_loss, abstention_threshold
from holdfast.losses.functional import cross_entropy
from holdfast.losses.per_example import weighted_mean
from holdfast.losses.placement import device_of
from holdfast.terms import Needs, TaskLoss
from holdfast.types import HeadForm, Source, Step, Update

__all__ = ["AbstainingClassifier"]


class AbstainingClassifier(TaskLoss):
    """A further output lets the network abstain in training, at a price that rises; predictions use the classes alone.

    Thulasidasan et al., ICML 2019. The price is per step, where the release moves it once an epoch.

    Args:
        warmup_epochs: Epochs of cross-entropy over all outputs, in which the first price is found.
        final_alpha: The price at the end.
        start_divisor: The first price is the running mean of the loss that abstaining would save, divided by this.
        momentum: Of that running mean.
    """

    NEEDS = Needs(hard_labels=True, weights=True, head=HeadForm(extra=1))
    SHARDED = True
    STATE = ("saving", "first_step", "abstained")

    saving: Tensor  # scalar, running mean over batches of (1 - a) times the cross-entropy among the classes
    first_step: Tensor  # scalar, the first step after the warm-up
    abstained: Tensor  # (2,), how many examples of this epoch the network abstained from, and how many it has seen

    def __init__(self, *, warmup_epochs: int = 5, final_alpha: float = 1.0, start_divisor: float = 64.0, momentum: float = 0.95) -> None:
        super().__init__()
        self.warmup_epochs = warmup_epochs
        self.final_alpha = final_alpha
        self.start_divisor = start_divisor
        self.momentum = momentum
        self._sums: list[Tensor] = []

    def setup(self, source: Source) -> None:
        """Begin to count."""
        if source.total_steps is None:
            raise ConfigError("method 'dac' raises the price of abstaining until the last step; pass attach(..., total_steps=N)")
        device = device_of(source)
        self.saving = torch.zeros((), dtype=torch.float64, device=device)
        self.first_step = torch.zeros((), dtype=torch.int64, device=device)
        self.abstained = torch.zeros(2, dtype=torch.int64, device=device)

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i [(1 - a_i) (-log(p_i[y_i] / (1 - a_i))) + α (-log(1 - a_i))]``; cross-entropy during the warm-up."""
        logits, labels = step.logits, step.labels
        if step.collect:
            abstained = (logits.argmax(dim=1) == logits.shape[1] - 1).sum()
            self._sums.append(torch.stack([abstention_threshold(logits, labels, reduction="sum").double(), abstained, _count(logits)]))
        if step.epoch < self.warmup_epochs:
            return weighted_mean(cross_entropy(logits, labels), step.weights)
        alpha = self.alpha(step.step, step.total_steps).to(logits.dtype)
        return weighted_mean(abstention_loss(logits, labels, alpha=alpha, reduction="none"), step.weights)

    def alpha(self, step: int, total_steps: int | None) -> Tensor:
        """The price of abstaining: from the saving found in the warm-up, divided, in a straight line to the final one."""
        first = self.saving / self.start_divisor
        passed = (step - self.first_step).double() / ((total_steps or 0) - 1 - self.first_step).clamp(min=1)
        return torch.lerp(first, torch.full_like(first, self.final_alpha), passed.clamp(0, 1))

    def after_step(self, update: Update) -> None:
        """Count abstentions, and in the warm-up follow what abstaining would save."""
        if not self._sums:
            return
        saving, abstained, rows = update.comm.sum(torch.stack(self._sums).sum(dim=0))
        self._sums = []
        if update.epoch < self.warmup_epochs:
            mean, begun = saving / rows, self.first_step > 0
            self.saving = torch.where(begun, torch.lerp(mean, self.saving, self.momentum), mean)
            self.first_step = torch.full_like(self.first_step, update.step + 1)
        before = torch.zeros_like(self.abstained) if update.step_in_epoch == 0 else self.abstained
        self.abstained = before + torch.stack([abstained, rows]).long()

    def discard_step(self) -> None:
        """Forget the sums of a skipped update."""
        self._sums = []

    def metrics(self) -> dict[str, Tensor | float]:
        """The share of this epoch's training examples on which the network abstained, and the running mean of the saving."""
        abstained, rows = self.abstained.tolist()
        return {"abstained": abstained / rows if rows else 0.0, "saving": self.saving}


def _count(rows: Tensor) -> Tensor:
    return torch.full((), len(rows), dtype=torch.int64, device=rows.device)
