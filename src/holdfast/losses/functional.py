"""Formulas of the task losses: tensors in, one value an example out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_matrix
from holdfast.losses.abstention import abstention_loss, abstention_threshold
from holdfast.losses.bi_tuning_contrast import enqueue_by_class, queue_contrast
from holdfast.losses.bounded_losses import (
    generalized_cross_entropy,
    jensen_shannon,
    mean_absolute_error,
    normalized_cross_entropy,
    reverse_cross_entropy,
)
from holdfast.losses.corrections import (
    backward_correction,
    backward_correction_by_class,
    clip_inverse,
    forward_correction,
    label_smoothing,
)
from holdfast.losses.focal_contrast import focal_contrastive_loss, soft_label_positives
from holdfast.losses.hard_pairs import hard_pairs, mix_hard_pairs
from holdfast.losses.mixing import mix_rows, mixup_cross_entropy
from holdfast.losses.moving_targets import (
    early_learning_regularization,
    early_learning_targets,
    self_adaptive_loss,
    self_adaptive_targets,
)
from holdfast.losses.semantic_calibration import align_rigidly, calibrate_queue, shift_to_classes
from holdfast.losses.transport import class_costs, select_source_classes, unbalanced_plan

__all__ = [
    "abstention_loss",
    "abstention_threshold",
    "align_rigidly",
    "backward_correction",
    "backward_correction_by_class",
    "calibrate_queue",
    "class_costs",
    "clip_inverse",
    "cross_entropy",
    "early_learning_regularization",
    "early_learning_targets",
    "enqueue_by_class",
    "focal_contrastive_loss",
    "forward_correction",
    "generalized_cross_entropy",
    "hard_pairs",
    "jensen_shannon",
    "label_smoothing",
    "mean_absolute_error",
    "mix_hard_pairs",
    "mix_rows",
    "mixup_cross_entropy",
    "normalized_cross_entropy",
    "queue_contrast",
    "reverse_cross_entropy",
    "select_source_classes",
    "self_adaptive_loss",
    "self_adaptive_targets",
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
