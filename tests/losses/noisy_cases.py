"""What the tests of the losses for wrong labels share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from holdfast.labels.transition import inverse, pair
from holdfast.losses import functional

CLASSES = 4


def logits_and_labels(rows: int = 7, classes: int = CLASSES, *, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Float64 logits (B, K) and classes (B,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (rows,), generator=generator)


def probabilities(rows: int, columns: int, *, seed: int = 1) -> Tensor:
    """Rows that sum to 1, float64."""
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(dim=1)


def all_losses(classes: int) -> dict[str, Callable[..., Tensor]]:
    """Every loss of logits and labels with ``reduction``, by name, with options that make it differ from cross-entropy."""
    matrix = torch.as_tensor(pair(classes, 0.3))
    turned = torch.as_tensor(inverse(matrix.numpy()))
    targets = probabilities(50, classes)

    def bind(function: Callable[..., Tensor], *given: Any, **options: Any) -> Callable[..., Tensor]:
        return lambda z, y, **more: function(z, y, *given, **options, **more)

    return {
        "backward": bind(functional.backward_correction, turned),
        "forward": bind(functional.forward_correction, matrix),
        "label-smoothing": bind(functional.label_smoothing, smoothing=0.2),
        "gce": bind(functional.generalized_cross_entropy, q=0.6),
        "rce": bind(functional.reverse_cross_entropy, log_zero=math.log(1e-4)),
        "mae": bind(functional.mean_absolute_error),
        "nce": bind(functional.normalized_cross_entropy),
        "js": bind(functional.jensen_shannon, weights=(0.3, 0.7)),
        "elr": lambda z, y, **more: functional.early_learning_regularization(z, targets[: len(z)], **more),
        "sat": lambda z, y, **more: functional.self_adaptive_loss(z, targets[: len(z)], **more),
        "dac": lambda z, y, **more: functional.abstention_loss(z, y.clamp(max=z.shape[-1] - 2), alpha=0.7, **more),
        "mixup": lambda z, y, **more: functional.mixup_cross_entropy(z, y, y.flip(0), 0.3, **more),
    }
