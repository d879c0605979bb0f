"""Backward correction."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.labels.transition import Matrix, inverse
from holdfast.losses.corrections import backward_correction, backward_correction_by_class, clip_inverse
from holdfast.losses.given_transition import TransitionLoss
from holdfast.losses.per_example import weighted_mean
from holdfast.terms import Scope
from holdfast.types import Step, Update

__all__ = ["BackwardCorrection"]

log = logging.getLogger("holdfast")


class BackwardCorrection(TransitionLoss):
    """Cross-entropy corrected by the inverse of a transition matrix, so that in expectation it is the one of the true labels.

    Patrini et al., CVPR 2017; Ju, Li and Zhang, ICML 2022, whose release this is with all options at their defaults. The loss of a batch
    may be negative, and is then counted.

    Args:
        transition: A file with F, rows true and columns observed, or ``symmetric:RATE`` or ``pair:RATE``.
        clamp_min: Least loss of an example, or ``none``.
        nonneg: What is done with a class whose share of the batch's loss is negative: nothing, its absolute value, or 0.
        clip_inverse: Whether negative entries of the inverse are set to 0 and its rows made to sum to 1.
        ridge: λ of the inverse.
        start_epoch: Epochs of plain cross-entropy before.
        force: Whether a matrix that is too close to singular is used all the same.
    """

    STATE = ("inverse", "negative_batches")

    inverse: Tensor  # (K, K) float64
    negative_batches: Tensor  # scalar

    def __init__(
        self,
        *,
        transition: str = "none",
        clamp_min: str = "none",
        nonneg: Literal["none", "abs", "relu"] = "none",
        clip_inverse: bool = False,
        ridge: float = 0.0,
        start_epoch: int = 0,
        force: bool = False,
    ) -> None:
        super().__init__(transition=transition, start_epoch=start_epoch, force=force)
        if clamp_min != "none" and nonneg != "none":
            raise ConfigError("--method backward: clamp_min acts on examples and nonneg on classes; give one of them")
        self.clamp_min = None if clamp_min == "none" else float(clamp_min)
        self.nonneg = nonneg
        self.clip_inverse = clip_inverse
        self.ridge = ridge
        if nonneg != "none":
            self.SCOPE = Scope.BATCH  # type: ignore[misc]  # of this object: only then does it look at the batch jointly
        self._sums: list[Tensor] = []
        self._warned = False

    def take(self, matrix: Matrix, device: torch.device) -> None:
        """Invert the matrix."""
        found = torch.as_tensor(inverse(matrix, ridge=self.ridge), device=device)
        self.inverse = clip_inverse(found) if self.clip_inverse else found
        self.negative_batches = torch.zeros((), dtype=torch.int64, device=found.device)

    def corrected(self, step: Step) -> Tensor:
        """``(1/B) Σ_i w_i Σ_k R[y_i, k] (-log p_ik)``, or with ``nonneg`` the sum of what is made of each class's share."""
        if self.nonneg != "none":
            return self._by_class(step)
        losses = backward_correction(step.logits, step.labels, self.inverse, clamp_min=self.clamp_min, reduction="none")
        loss = weighted_mean(losses, step.weights)
        self._collect(step, loss)
        return loss

    def _by_class(self, step: Step) -> Tensor:
        own = backward_correction_by_class(step.logits, step.labels, self.inverse, weights=step.weights)
        shares = step.comm.gather(own[None]).mean(dim=0)
        self._collect(step, own.sum())
        return (shares.abs() if self.nonneg == "abs" else shares.relu()).sum()

    def _collect(self, step: Step, loss: Tensor) -> None:
        if step.collect:
            self._sums.append(loss.detach())

    def after_step(self, update: Update) -> None:
        """Count the batch if its loss was negative."""
        if self._sums:
            total = update.comm.sum(torch.stack(self._sums).sum())
            self.negative_batches = self.negative_batches + (total < 0)
            self._sums = []

    def discard_step(self) -> None:
        """Forget the loss of a skipped update."""
        self._sums = []

    def metrics(self) -> dict[str, Tensor | float]:
        """Batches so far whose loss was negative before ``nonneg``; the first time, a warning says what that means."""
        count = float(self.negative_batches)
        if count and not self._warned:
            self._warned = True
            log.warning(
                "method 'backward': the corrected loss was negative in %d batch(es), where the network fits noise; a smaller learning "
                "rate, a distance constraint or --method.backward.nonneg abs helps",
                int(count),
            )
        return {"negative_batches": count}
