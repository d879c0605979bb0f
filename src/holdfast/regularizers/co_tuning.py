"""Co-Tuning: the head of the pretraining goes on learning, from the source classes that the target classes are related to."""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.regularizers.relationship import co_tuning_loss, source_relationship_direct, source_relationship_reverse
from holdfast.terms import Needs, Regularizer
from holdfast.types import Source, Step

__all__ = ["CoTuning"]

log = logging.getLogger("holdfast")


class CoTuning(Regularizer):
    """Cross-entropy of the pretrained head, which is trained on, with p(source class | target class) as targets.

    You et al., NeurIPS 2020; release thuml/CoTuning, but with the exact minimum of its regression. The relationship is found once, from
    the source probabilities of the un-augmented training and validation examples, and stays.

    Args:
        relationship: ``reverse``: by Bayes' rule from a regression of the target on the source classes, which a validation split
            calibrates; ``direct``: the mean source probabilities of each class. Without a validation split it is the direct one.
        calibration: κ, the factor of the source logits before their softmax.
    """

    NEEDS = Needs(layers=("pooled",), source_head=True, hard_labels=True)
    SHARDED = True
    STATE = ("relationship", "source_weight", "source_bias")

    relationship: Tensor  # (K, K_s)
    source_weight: nn.Parameter  # (K_s, D)
    source_bias: nn.Parameter | None  # (K_s,)

    def __init__(self, *, relationship: Literal["reverse", "direct"] = "reverse", calibration: float = 1.0) -> None:
        super().__init__()
        self.kind = relationship
        self.calibration = calibration

    def setup(self, source: Source) -> None:
        """Take over the pretrained head, and relate its classes to those of the target."""
        head = source.reference.source_head()
        self.source_weight = nn.Parameter(head.weight.detach().clone())
        if head.bias is not None:
            self.source_bias = nn.Parameter(head.bias.detach().clone())
        self.relationship = self._relate(source).to(self.source_weight)

    def pretrained_parameters(self) -> tuple[nn.Parameter, ...]:
        """The source head: the authors train it at the backbone's rate, a tenth of the new head's."""
        return tuple(parameter for parameter in (self.source_weight, self.source_bias) if parameter is not None)

    def penalty(self, step: Step) -> Tensor:
        """``(1/B) Σ_i -Σ_s ρ[y_i, s] log softmax(W_s z_i + b_s)[s]``."""
        return co_tuning_loss(F.linear(step.features["pooled"], self.source_weight, self.source_bias), step.labels, self.relationship)

    def _relate(self, source: Source) -> Tensor:
        """ρ (K, K_s), float64, on the CPU; every rank computes the same."""
        train = _seen(source, "train", self.calibration)
        val = _seen(source, "val", self.calibration) if source.has("val") else None
        if self.kind == "direct":
            probs, labels = train if val is None else (torch.cat(both) for both in zip(train, val, strict=True))
            return source_relationship_direct(probs, labels, source.num_classes)
        if val is None or not torch.isin(val.labels, train.labels).any():
            log.warning(
                "co-tuning: the reverse relationship is calibrated on validation examples of the training classes, and there are none; "
                "the direct one is used. Give --val-fraction, such as 0.1, for the reverse one, or type --method.relationship direct."
            )
            return source_relationship_direct(*train, source.num_classes)
        found = source_relationship_reverse(*train, *val, source.num_classes)
        log.info(
            "co-tuning: related %d target to %d source classes; the regression (C = %g) finds %.1f %% of validation.",
            *found.relationship.shape,
            found.strength,
            100 * float(found.accuracies.max()),
        )
        return found.relationship


class _Seen(NamedTuple):
    """A split as the pretrained classifier sees it, on the CPU."""

    probs: Tensor  # (N, K_s), float64
    labels: Tensor  # (N,)


def _seen(source: Source, split: str, calibration: float) -> _Seen:
    """All ranks' examples in rank order, which is that of the split: shares are contiguous."""
    like = source.reference.source_head().weight
    # The first part is empty: a small split may leave a rank without examples.
    logits, labels = [like.new_zeros(0, len(like))], [torch.zeros(0, dtype=torch.int64, device=like.device)]
    for batch in source.batches(split):
        logits.append(source.reference.logits(batch.inputs).to(like.dtype))
        labels.append(batch.labels)
    gathered = source.comm.gather(torch.cat(logits)).detach().cpu().double()
    return _Seen((calibration * gathered).softmax(dim=1), source.comm.gather(torch.cat(labels)).cpu())
