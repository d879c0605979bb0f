"""UOT fine-tuning: joint training on the source classes that resemble the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.losses.functional import cross_entropy
from holdfast.losses.transport import class_costs, select_source_classes, unbalanced_plan
from holdfast.terms import Needs, TaskLoss
from holdfast.types import Batch, HeadForm, Source, Step

__all__ = ["UOTFineTuning"]


class UOTFineTuning(TaskLoss):
    """Cross-entropy on the target, and on rows of the selected source classes, with two heads on one network.

    Liu et al., NeurIPS 2022. Before training, unbalanced transport between the class means of the pretrained features weighs the source
    classes; the heaviest are kept, with all their images. Each batch is joined by as many of them, which pass through the network
    together with it. The source head is only used for training.

    Args:
        classes: How many source classes are kept.
        cost_scale: Divisor of the cosine distance between class means.
        epsilon: Weight of the entropy of the plan.
        rho_source: Price of leaving source masses.
        rho_target: Price of leaving target masses.
    """

    NEEDS = Needs(layers=("pooled",), hard_labels=True, extra=("source",), head=HeadForm(std=None))
    SHARDED = True
    STATE = ("selected", "head_weight", "head_bias")

    selected: Tensor  # (top,), sorted source classes
    head_weight: nn.Parameter  # (K_s, D)
    head_bias: nn.Parameter  # (K_s,)

    def __init__(
        self,
        *,
        classes: int = 100,
        cost_scale: float = 0.1,
        epsilon: float = 1.0,
        rho_source: float = 1.0,
        rho_target: float = 100.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.cost_scale = cost_scale
        self.epsilon = epsilon
        self.rho_source = rho_source
        self.rho_target = rho_target

    def setup(self, source: Source) -> None:
        """Select the source classes, and draw their head."""
        like = source.reference.features(next(source.batches()).inputs)["pooled"]
        source_means, target_means = (_class_means(source, split, like.device) for split in ("source", "train"))
        present = ~source_means.isnan().any(dim=1)
        costs = class_costs(source_means[present], target_means[~target_means.isnan().any(dim=1)], scale=self.cost_scale)
        importance = torch.full_like(source_means[:, 0], -torch.inf)
        plan = unbalanced_plan(costs, epsilon=self.epsilon, rho_source=self.rho_source, rho_target=self.rho_target).plan
        importance[present] = plan.sum(dim=1)
        self.selected = select_source_classes(importance, min(self.classes, int(present.sum()))).to(like.device)
        classes, width = source_means.shape
        drawn = math.sqrt(2 / width) * torch.randn(classes, width, generator=source.generator("uot"))
        self.head_weight, self.head_bias = nn.Parameter(drawn.to(like)), nn.Parameter(like.new_zeros(classes))

    def extra_classes(self) -> Mapping[str, Tensor]:
        """The source classes that batches are drawn from."""
        return {"source": self.selected}

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``target`` and ``source``: the mean cross-entropy of each."""
        rows = step.extra["source"]
        logits = F.linear(rows.features["pooled"], self.head_weight, self.head_bias)
        return {"target": cross_entropy(step.logits, step.labels).mean(), "source": cross_entropy(logits, rows.labels).mean()}


def _class_means(source: Source, split: str, device: torch.device) -> Tensor:
    """Mean pretrained features (K, D) of each class of a split, float64, on the CPU; NaN for classes without examples."""
    sums, counts = torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    for features, labels in _features(source, split):
        sums, counts = _grown(sums, counts, int(labels.max()) + 1, features.shape[1])
        sums.index_add_(0, labels, features)
        counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
    shapes = source.comm.gather(torch.tensor([list(sums.shape)], device=device)).max(dim=0).values.tolist()
    sums, counts = (source.comm.sum(total.to(device)).cpu() for total in _grown(sums, counts, *shapes))
    return sums / counts[:, None]


def _features(source: Source, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    batch: Batch
    for batch in source.batches(split):
        yield source.reference.features(batch.inputs)["pooled"].double().cpu(), batch.labels.cpu()


def _grown(sums: Tensor, counts: Tensor, classes: int, width: int) -> tuple[Tensor, Tensor]:
    """The same totals with room for this many classes at least: how many there are is known only at the end."""
    grown, more = sums.new_zeros(max(classes, len(counts)), width), counts.new_zeros(max(classes, len(counts)))
    if len(counts):
        grown[: len(counts)], more[: len(counts)] = sums, counts
    return grown, more
