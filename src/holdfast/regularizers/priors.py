"""Gaussian priors of features, estimated by one pass of the pretrained network over the training split.

Means and squared deviations are merged batch by batch (Chan, Golub & LeVeque 1979) in float64: the textbook ``E[z²] - E[z]²`` in
float32 would lose the small variances that a prior of nearly dead units lives on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.regularizers.functional import class_means, class_sums
from holdfast.types import Comm, Source

__all__ = ["ClassPrior", "ClassStatistics", "class_prior", "pooled_prior"]


@dataclass(frozen=True)
class ClassPrior:
    """A normal distribution of features for each class.

    ``mean`` and ``std`` (K, D); ``active`` (K,) is false for classes without an example, whose rows hold the pooled statistics.
    """

    mean: Tensor
    std: Tensor
    active: Tensor


class ClassStatistics:
    """Running count, mean and sum of squared deviations of the features of each class.

    Example:
        >>> statistics = ClassStatistics(2)
        >>> statistics.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
        >>> prior = statistics.prior()
        >>> prior.mean.tolist(), prior.std.tolist(), prior.active.tolist()
        ([[2.0], [2.0]], [[1.0], [1.0]], [True, False])
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.count: Tensor | None = None  # (K, 1)
        self.mean: Tensor | None = None  # (K, D)
        self.deviation: Tensor | None = None  # (K, D), Σ (z - mean)²
        self._dtype = torch.float32

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Take in features (B, D) with labels (B,)."""
        self._dtype = torch.promote_types(features.dtype, torch.float32)
        features = features.detach().double()
        classes, within = labels.unique(return_inverse=True)  # only their rows are touched: K may be in the tens of thousands
        sums = class_sums(features, within, len(classes))
        count, mean = sums[:, -1:], class_means(sums)
        deviation = torch.zeros_like(mean).index_add_(0, within, (features - mean[within]).square())
        self._merge(classes, count, mean, deviation)

    def _merge(self, classes: Tensor, count: Tensor, mean: Tensor, deviation: Tensor) -> None:
        """Take in statistics (C, 1), (C, D), (C, D) of some classes (C,)."""
        if self.count is None or self.mean is None or self.deviation is None:
            self.count = count.new_zeros(self.num_classes, 1)
            self.mean, self.deviation = mean.new_zeros(self.num_classes, mean.shape[1]), mean.new_zeros(self.num_classes, mean.shape[1])
        before = self.count.index_select(0, classes)
        total = before + count
        shift = mean - self.mean.index_select(0, classes)
        self.deviation.index_add_(0, classes, deviation + shift.square() * (before * count / total))
        self.mean.index_add_(0, classes, shift * (count / total))
        self.count.index_add_(0, classes, count)

    def prior(self, comm: Comm | None = None) -> ClassPrior:
        """The prior over all ranks' examples; standard deviations divide by the count (ddof 0).

        Raises:
            DataError: No example was seen on any rank.
        """
        count, mean, deviation = self._reduced(comm)
        total = count.sum()
        if total == 0:
            raise DataError("the training split gave no example, so features have no statistics. Check the split.")
        pooled_mean = (count * mean).sum(0) / total
        pooled_std = ((deviation + count * (mean - pooled_mean).square()).sum(0) / total).sqrt()
        active = count[:, 0] > 0
        std = (deviation / count.clamp_min(1)).sqrt()
        present = active[:, None]
        return ClassPrior(
            mean=torch.where(present, mean, pooled_mean).to(self._dtype),
            std=torch.where(present, std, pooled_std).to(self._dtype),
            active=active,
        )

    def _reduced(self, comm: Comm | None) -> tuple[Tensor, Tensor, Tensor]:
        if self.count is None or self.mean is None or self.deviation is None:
            raise DataError("this rank's share of the training split is empty, so features have no statistics. Use fewer ranks.")
        if comm is None or comm.size == 1:
            return self.count, self.mean, self.deviation
        count = comm.sum(self.count)
        mean = comm.sum(self.count * self.mean) / count.clamp_min(1)
        deviation = comm.sum(self.deviation + self.count * (self.mean - mean).square())
        return count, mean, deviation


def class_prior(source: Source) -> ClassPrior:
    """Mean and standard deviation of the pretrained ``pooled`` features of each class of the training split."""
    statistics = ClassStatistics(source.num_classes)
    for batch in source.batches():
        statistics.update(source.reference.features(batch.inputs)["pooled"], batch.labels)
    return statistics.prior(source.comm)


def pooled_prior(source: Source) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the pretrained ``pooled`` features over the whole training split."""
    statistics = ClassStatistics(1)
    for batch in source.batches():
        statistics.update(source.reference.features(batch.inputs)["pooled"], torch.zeros_like(batch.labels))
    prior = statistics.prior(source.comm)
    return prior.mean[0], prior.std[0]
