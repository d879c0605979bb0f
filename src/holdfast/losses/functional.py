"""Formulas of the task losses: tensors in, one value an example out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_matrix
from holdfast.losses.bi_tuning_contrast import enqueue_by_class, queue_contrast
from holdfast.losses.focal_contrast import focal_contrastive_loss, soft_label_positives
from holdfast.losses.hard_pairs import hard_pairs, mix_hard_pairs
from holdfast.losses.semantic_calibration import align_rigidly, calibrate_queue, shift_to_classes
from holdfast.losses.transport import class_costs, select_source_classes, unbalanced_plan

__all__ = [
    "align_rigidly",
    "calibrate_queue",
    "class_costs",
    "cross_entropy",
    "enqueue_by_class",
    "focal_contrastive_loss",
    "hard_pairs",
    "mix_hard_pairs",
    "queue_contrast",
    "select_source_classes",
    "shift_to_classes",
    "soft_label_positives",
    "unbalanced_plan",
]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each example's class, in nats.

    Args:
        logits: Scores before softmax (B, K), float32 or wider.
        labels: Classes (B,), integers from 0 to K - 1.

    Returns:
        One value an example (B,), at least 0; not reduced.

    Raises:
        ShapeError: ``logits`` is no matrix, or ``labels`` do not fit it.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])).exp()
        tensor([4., 4.])
    """
    check_matrix("logits", logits, symbols="(B, K)")
    check_labels(labels, len(logits))
    return F.cross_entropy(logits, labels, reduction="none")
