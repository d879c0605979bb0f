"""Validators, used where a value enters. Those of tensors look at attributes only, so that no import of torch is needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from holdfast.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_labels", "check_matrix", "check_same_shape", "numbers_by_pattern"]


def check_matrix(name: str, tensor: Tensor, *, symbols: str = "(B, D)") -> None:
    """Refuse anything but a floating-point matrix.

    Raises:
        ShapeError: Names the tensor, its shape or type, and what to do.
    """
    if tensor.ndim != 2:
        hint = "; pool the spatial axes first, or use layer 'pooled'" if tensor.ndim == 4 else ""
        raise ShapeError(f"{name} must be {symbols}, got {tuple(tensor.shape)}{hint}.")
    if not tensor.is_floating_point():
        raise ShapeError(f"{name} must be floating point, got {tensor.dtype}; convert it with .float().")


def check_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse two tensors of different shape.

    Raises:
        ShapeError: Names both tensors and their shapes.
    """
    if tensor.shape != other.shape:
        raise ShapeError(f"{name} {tuple(tensor.shape)} and {other_name} {tuple(other.shape)} must have the same shape.")


def check_labels(labels: Tensor, rows: int) -> None:
    """Refuse anything but one integer class for each row. The range is checked where labels enter a run, not at every step.

    Raises:
        ShapeError: The labels have another shape or type.
    """
    if labels.ndim != 1 or len(labels) != rows:
        raise ShapeError(f"labels must be ({rows},), one class for each row of features, got {tuple(labels.shape)}.")
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels must be integer classes, got {labels.dtype}; convert them with .long().")


def numbers_by_pattern(text: str) -> dict[str, float]:
    """One number for all, under the pattern ``*``, or numbers by patterns on names.

    Raises:
        ValueError: The text is neither; a number is not finite, or a pattern is named twice.

    Example:
        >>> numbers_by_pattern("0.5"), numbers_by_pattern("layer3=0.5, layer4 = 1")
        ({'*': 0.5}, {'layer3': 0.5, 'layer4': 1.0})
    """
    parts = [part.rpartition("=") for part in text.split(",")]
    alone = len(parts) == 1 and not parts[0][1]
    numbers = {"*" if alone else pattern.strip(): float(number) for pattern, _, number in parts}
    if len(numbers) < len(parts) or not all(numbers) or not all(math.isfinite(number) for number in numbers.values()):
        raise ValueError(text)
    return numbers
