"""Forward correction."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.labels.transition import Matrix
from holdfast.losses.corrections import forward_correction
from holdfast.losses.functional import cross_entropy
from holdfast.losses.given_transition import read_correctable
from holdfast.losses.per_example import weighted_mean
from holdfast.losses.placement import device_of
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Source, Step

__all__ = ["ForwardCorrection"]


class ForwardCorrection(TaskLoss):
    """Cross-entropy of the observed labels with predictions that a transition matrix has blurred.

    Patrini et al., CVPR 2017.

    Args:
        transition: A file with F, rows true and columns observed, or ``symmetric:RATE`` or ``pair:RATE``.
        start_epoch: Epochs of plain cross-entropy before.
        force: Whether a matrix that is too close to singular is used all the same.
    """

    NEEDS = Needs(hard_labels=True, weights=True)
    STATE = ("matrix",)

    matrix: Tensor  # F (K, K) float64

    def __init__(self, *, transition: str = "none", start_epoch: int = 0, force: bool = False) -> None:
        super().__init__()
        self.transition = transition
        self.start_epoch = start_epoch
        self.force = force
        self._given: Matrix | None = None

    def check(self, num_classes: int) -> None:
        """Read the matrix, and refuse one that cannot correct."""
        self._given = read_correctable(self.transition, num_classes, force=self.force)

    def setup(self, source: Source) -> None:
        """Keep the matrix."""
        if self._given is None:
            self.check(source.num_classes)
        assert self._given is not None
        self.matrix = torch.as_tensor(self._given, device=device_of(source))

    def loss(self, step: Step) -> Tensor:
        """``(1/B) Σ_i -w_i log (p_i F)[y_i]``."""
        if step.epoch < self.start_epoch:
            return weighted_mean(cross_entropy(step.logits, step.labels), step.weights)
        return weighted_mean(forward_correction(step.logits, step.labels, self.matrix, reduction="none"), step.weights)
