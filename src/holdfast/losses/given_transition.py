"""What losses share that are corrected by a given transition matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.labels.transition import Matrix, check_correctable, read_transition
from holdfast.losses.functional import cross_entropy
from holdfast.losses.per_example import weighted_mean
from holdfast.losses.placement import device_of
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Source, Step

__all__ = ["TransitionLoss", "read_correctable"]


class TransitionLoss(TaskLoss):
    """A task loss with a transition matrix, after epochs of plain cross-entropy; it defines :meth:`take` and :meth:`corrected`.

    Args:
        transition: A file with F, rows true and columns observed, or ``symmetric:RATE`` or ``pair:RATE``.
        start_epoch: Epochs of plain cross-entropy before.
        force: Whether a matrix that is too close to singular is used all the same.
    """

    NEEDS = Needs(hard_labels=True, weights=True)
    SHARDED = True

    def __init__(self, *, transition: str, start_epoch: int, force: bool) -> None:
        super().__init__()
        self.transition = transition
        self.start_epoch = start_epoch
        self.force = force
        self._given: Matrix | None = None

    def check(self, num_classes: int) -> None:
        """Read the matrix, and refuse one that cannot correct."""
        self._given = read_correctable(self.transition, num_classes, force=self.force)

    def setup(self, source: Source) -> None:
        """Take what is needed of the matrix to the network's device."""
        if self._given is None:
            self.check(source.num_classes)
        assert self._given is not None
        self.take(self._given, device_of(source))

    def loss(self, step: Step) -> Tensor:
        """Plain cross-entropy before ``start_epoch``, the corrected one from then on."""
        if step.epoch < self.start_epoch:
            return weighted_mean(cross_entropy(step.logits, step.labels), step.weights)
        return self.corrected(step)

    def take(self, matrix: Matrix, device: torch.device) -> None:
        """Fill ``STATE`` from F (K, K)."""
        raise NotImplementedError(f"{type(self).__name__} must define take(matrix, device)")

    def corrected(self, step: Step) -> Tensor:
        """The corrected loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define corrected(step)")


def read_correctable(spec: str, num_classes: int, *, force: bool) -> Matrix:
    """F (K, K) as the option ``transition`` names it.

    Raises:
        ConfigError: The option is missing, or names no matrix.
        DataError: The matrix cannot be used for a correction.
    """
    if spec == "none":
        raise ConfigError(
            "the transition matrix of the labels is missing; give --method.transition FILE.csv, .npy, .npz or .json, or a form such as "
            "symmetric:0.4 or pair:0.3"
        )
    matrix = read_transition(spec, num_classes)
    check_correctable(matrix, f"transition {spec!r}", force=force)
    return matrix
