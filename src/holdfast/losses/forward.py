"""Forward correction."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.labels.transition import Matrix
from holdfast.losses.corrections import forward_correction
from holdfast.losses.given_transition import TransitionLoss
from holdfast.losses.per_example import weighted_mean
from holdfast.types import Step

__all__ = ["ForwardCorrection"]


class ForwardCorrection(TransitionLoss):
    """Cross-entropy of the observed labels with predictions that a transition matrix has blurred.

    Patrini et al., CVPR 2017.

    Args:
        transition: A file with F, rows true and columns observed, or ``symmetric:RATE`` or ``pair:RATE``.
        start_epoch: Epochs of plain cross-entropy before.
        force: Whether a matrix that is too close to singular is used all the same.
    """

    STATE = ("matrix",)

    matrix: Tensor  # F (K, K) float64

    def __init__(self, *, transition: str = "none", start_epoch: int = 0, force: bool = False) -> None:
        super().__init__(transition=transition, start_epoch=start_epoch, force=force)

    def take(self, matrix: Matrix, device: torch.device) -> None:
        """Keep the matrix."""
        self.matrix = torch.as_tensor(matrix, device=device)

    def corrected(self, step: Step) -> Tensor:
        """``(1/B) Σ_i -w_i log (p_i F)[y_i]``."""
        return weighted_mean(forward_correction(step.logits, step.labels, self.matrix, reduction="none"), step.weights)
