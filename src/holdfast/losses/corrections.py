"""Losses corrected by a transition matrix F of the labels, rows true and columns observed, and label smoothing, their mirror image."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.checks import check_labels, check_matrix
from holdfast.errors import DataError, ShapeError
from holdfast.losses.per_example import Reduction, check_classes, entry_of_label, log_probs, reduce_losses

__all__ = ["backward_correction", "backward_correction_by_class", "clip_inverse", "forward_correction", "label_smoothing"]


def backward_correction(
    logits: Tensor, labels: Tensor, inverse: Tensor, *, clamp_min: float | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy of the observed labels that is in expectation the one of the true labels.

    ``Σ_k R[y, k] (-log p_k)`` with ``R = F⁻¹``: cross-entropy with the pseudo-target ``R[y]``, whose entries sum to 1 and may be negative,
    so the loss has no lower bound. Averaged over the observed labels of a true class it is that class's cross-entropy, if F has an inverse.
    Patrini et al., CVPR 2017; the form of Ju, Li and Zhang, ICML 2022.

    Args:
        logits: Scores before softmax (B, K).
        labels: Observed classes (B,), or soft ones (B, K).
        inverse: R (K, K), row = observed class, as :func:`holdfast.labels.transition.inverse` returns it.
        clamp_min: Least value of an example's loss; biased where it acts.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, float32 or wider.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    losses = -(_pseudo_targets(logits, labels, inverse) * log_probs(logits)).sum(dim=1)
    return reduce_losses(losses if clamp_min is None else losses.clamp(min=clamp_min), reduction)


def backward_correction_by_class(
    logits: Tensor, labels: Tensor, inverse: Tensor, *, weights: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """What each true class adds to the backward-corrected loss of a batch: (K,), ``(1/B) Σ_i w_i R[y_i, k] (-log p_ik)`` for class k.

    In expectation each is a share of an ordinary cross-entropy, so a negative one is noise (Lu et al., AISTATS 2020). The sum over classes
    is the loss of :func:`backward_correction`.

    Args:
        logits: Scores before softmax (B, K).
        labels: Observed classes (B,), or soft ones (B, K).
        inverse: R (K, K).
        weights: Weight of each example (B,).
        reduction: ``mean`` or ``sum`` over the batch; with ``none`` the rows (B, K) stay apart.

    Returns:
        (K,), or (B, K).

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    shares = -_pseudo_targets(logits, labels, inverse) * log_probs(logits)
    shares = shares if weights is None else weights[:, None] * shares
    return shares if reduction == "none" else shares.mean(dim=0) if reduction == "mean" else shares.sum(dim=0)


def _pseudo_targets(logits: Tensor, labels: Tensor, inverse: Tensor) -> Tensor:
    """``R[y]`` (B, K) in the type of the loss."""
    check_classes(labels, logits)
    _check_square("inverse", inverse, logits)
    inverse = inverse.to(logits.device)
    rows = labels.to(inverse.dtype) @ inverse if labels.ndim == 2 else inverse[labels]
    return rows.to(torch.promote_types(logits.dtype, torch.float32))


def _check_square(name: str, matrix: Tensor, logits: Tensor) -> None:
    check_matrix("logits", logits, symbols="(B, K)")
    classes = logits.shape[1]
    if tuple(matrix.shape) != (classes, classes):
        raise ShapeError(f"{name} must be ({classes}, {classes}), as the logits have {classes} classes, got {tuple(matrix.shape)}.")


def clip_inverse(inverse: Tensor) -> Tensor:
    """R (K, K) with its negative entries set to 0 and its rows made to sum to 1 again: a bounded loss, but a biased one."""
    clipped = inverse.clamp(min=0)
    return clipped / clipped.sum(dim=1, keepdim=True)


def forward_correction(logits: Tensor, labels: Tensor, transition: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of the observed labels with the predictions as F would blur them: ``-log (p F)[y]``.

    Not negative; its minimiser is that of the clean loss, its value is not. Patrini et al., CVPR 2017.

    Args:
        logits: Scores before softmax (B, K).
        labels: Observed classes (B,).
        transition: F (K, K), rows true and columns observed.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar, at least 0.

    Raises:
        ShapeError: The shapes do not fit each other.
        DataError: A label is observed that F says never is; on a GPU this is torch's own error, raised when its result is read.
    """
    check_labels(labels, len(logits))
    _check_square("transition", transition, logits)
    logs = log_probs(logits)
    transition = transition.to(logits.device)
    columns = transition.T[labels]  # (B, K), the probability of the observed label from each true class
    _refuse_impossible(columns, labels)
    return reduce_losses(-(logs + columns.log().to(logs.dtype)).logsumexp(dim=1), reduction)


def _refuse_impossible(columns: Tensor, labels: Tensor) -> None:
    possible = (columns > 0).any(dim=1)
    if possible.is_cuda:  # without waiting for the device
        torch._assert_async(possible.all(), "a label is observed whose column of the transition matrix is all zero")
    elif not bool(possible.all()):
        label = int(labels[~possible][0])
        raise DataError(f"transition: column {label} is all zero, so class {label} is never observed, but here it is; mend the matrix")


def label_smoothing(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy with the target ``(1 - a) onehot + a / K``.

    Szegedy et al., CVPR 2016. The backward correction of symmetric noise e is this with ``a = -e K / ((K - 1) (1 - e K / (K - 1)))``: the
    two pull in opposite directions (Lukasik et al., ICML 2020).

    Args:
        logits: Scores before softmax (B, K).
        labels: Classes (B,), or soft ones (B, K).
        smoothing: a.
        reduction: ``none``, ``mean`` or ``sum``.

    Returns:
        (B,) or a scalar.

    Raises:
        ShapeError: The shapes do not fit each other.
    """
    check_classes(labels, logits)
    logs = log_probs(logits)
    return reduce_losses(-(1 - smoothing) * entry_of_label(logs, labels) - smoothing * logs.mean(dim=1), reduction)
