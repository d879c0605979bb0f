"""Formulas of Co-Tuning: how the classes of the pretraining relate to those of the target, and the loss that uses it.

``K`` target classes, ``K_s`` source classes, ``N`` examples. The relationship is estimated once, so everything but the loss is meant
for float64 on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from holdfast.checks import check_labels, check_matrix
from holdfast.errors import ShapeError
from holdfast.regularizers.multinomial import fit_multinomial

__all__ = ["STRENGTHS", "ReverseRelationship", "co_tuning_loss", "source_relationship_direct", "source_relationship_reverse"]

STRENGTHS = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)
"""The grid of C of the authors' release, from weak regularisation to strong."""

LARGEST_SCALE = 100.0
"""Validation data that the regression separates perfectly would send the scale of its logits to infinity."""


class ReverseRelationship(NamedTuple):
    """What was found on the way to p(source class | target class)."""

    relationship: Tensor  # (K, K_s), rows sum to 1
    strength: float  # C
    accuracies: Tensor  # on validation, by the grid of C
    coefficients: Tensor  # A (classes present in train, K_s) at the best C
    scale: float  # s
    target_given_source: Tensor  # (K_s, K), zero for classes absent from train
    marginal: Tensor  # (K_s,)


def co_tuning_loss(source_logits: Tensor, labels: Tensor, relationship: Tensor) -> Tensor:
    """Mean cross-entropy of the source head, each example's target being the source classes that its class is related to.

    You et al., Co-Tuning for Transfer Learning, NeurIPS 2020: ``(1/B) Σ_i -Σ_s ρ[y_i, s] log softmax(source_logits_i)[s]``.

    Args:
        source_logits: Logits (B, K_s) of the source head, float32 or wider.
        labels: Target classes (B,).
        relationship: ρ (K, K_s), rows sum to 1; no gradient flows into it.

    Returns:
        Scalar, at least 0.

    Raises:
        ShapeError: The inputs do not fit each other.

    Example:
        >>> loss = co_tuning_loss(torch.zeros(3, 4), torch.tensor([0, 1, 1]), torch.eye(2, 4))
        >>> round(float(loss.exp()), 4)
        4.0
    """
    check_matrix("source_logits", source_logits, symbols="(B, K_s)")
    check_labels(labels, len(source_logits))
    _check_columns("relationship", relationship, source_logits)
    return F.cross_entropy(source_logits, relationship.detach()[labels])


def source_relationship_direct(source_probs: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean source probabilities of the examples of each target class; of all examples, for a class without any.

    Args:
        source_probs: q (N, K_s), rows sum to 1.
        labels: Target classes (N,).
        num_classes: K.

    Returns:
        ρ (K, K_s), rows sum to 1.

    Raises:
        ShapeError: The inputs do not fit each other.

    Example:
        >>> source_relationship_direct(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([0, 0]), 2)
        tensor([[0.7500, 0.2500],
                [0.7500, 0.2500]])
    """
    check_matrix("source_probs", source_probs, symbols="(N, K_s)")
    check_labels(labels, len(source_probs))
    sums = source_probs.new_zeros(num_classes, source_probs.shape[1]).index_add_(0, labels, source_probs)
    counts = torch.bincount(labels, minlength=num_classes)[:, None]
    return torch.where(counts > 0, sums / counts.clamp_min(1), source_probs.mean(dim=0))


def source_relationship_reverse(
    train_probs: Tensor,
    train_labels: Tensor,
    val_probs: Tensor,
    val_labels: Tensor,
    num_classes: int,
    *,
    strengths: tuple[float, ...] = STRENGTHS,
) -> ReverseRelationship:
    """p(source class | target class) by Bayes' rule from a calibrated p(target class | source class).

    A multinomial regression of the label on the source probabilities, its C and the scale of its logits chosen on validation, is read
    at the corners of the simplex, where one source class is certain. Differs from thuml/CoTuning in that the minimum is exact: the
    solver there stops early, which moves ρ by up to about 0.01.

    Classes absent from train take no part, their validation examples neither; their row is the marginal of the source classes.

    Args:
        train_probs: q of the training examples (N, K_s), rows sum to 1, float64.
        train_labels: Their target classes (N,).
        val_probs: q of the validation examples (M, K_s).
        val_labels: Their target classes (M,), at least one of them present in train.
        num_classes: K.
        strengths: The grid of C, from weak regularisation to strong; among equally good ones the first is kept.

    Returns:
        The relationship, and what it was made of.

    Raises:
        ShapeError: The inputs do not fit each other, or validation has no example of a class of train.
    """
    for name, probs, labels in (("train_probs", train_probs, train_labels), ("val_probs", val_probs, val_labels)):
        check_matrix(name, probs, symbols="(N, K_s)")
        check_labels(labels, len(probs))
    _check_columns("val_probs", val_probs, train_probs)
    present = torch.bincount(train_labels, minlength=num_classes) > 0
    number = present.cumsum(0) - 1  # of each class among those present
    usable = present[val_labels]
    if not usable.any():
        raise ShapeError("val_labels must hold a class that train_labels hold too; without one use source_relationship_direct.")
    probs, labels = val_probs[usable], number[val_labels[usable]]
    best, accuracies, coefficients = _choose_strength(train_probs, number[train_labels], probs, labels, strengths)
    scale = _best_scale(probs @ coefficients.T, labels)
    marginal = torch.cat([train_probs, val_probs]).mean(dim=0)
    # In logarithms: a class that no source class speaks for would otherwise be 0 / 0.
    log_target = (scale * coefficients).log_softmax(dim=0)
    relationship = marginal.repeat(num_classes, 1)
    relationship[present] = (log_target + marginal.log()).softmax(dim=1)
    target_given_source = marginal.new_zeros(len(marginal), num_classes)
    target_given_source[:, present] = log_target.exp().T
    return ReverseRelationship(relationship, strengths[best], accuracies, coefficients, scale, target_given_source, marginal)


def _choose_strength(
    inputs: Tensor, labels: Tensor, val_inputs: Tensor, val_labels: Tensor, strengths: tuple[float, ...]
) -> tuple[int, Tensor, Tensor]:
    """Position of the C of the best validation accuracy, all accuracies, and the minimiser at that C.

    From strong regularisation to weak each fit begins where the last one ended. It goes on only until no validation example can change
    its class any more; the best one is then finished.
    """
    accuracies = inputs.new_zeros(len(strengths))
    coefficients = best = inputs.new_zeros(int(labels.max()) + 1, inputs.shape[1])
    chosen = len(strengths) - 1
    lengths = val_inputs.norm(dim=1)

    def decided(coefficients: Tensor, distance: float) -> bool:
        """Whether no coefficients within ``distance`` give an example another class."""
        first, second = (val_inputs @ coefficients.T).topk(2, dim=1).values.unbind(dim=1)
        return bool((first - second > 2**0.5 * distance * lengths).all())

    if len(coefficients) == 1:  # a single class leaves nothing to choose
        return 0, accuracies + 1, coefficients
    for position in reversed(range(len(strengths))):
        coefficients = fit_multinomial(inputs, labels, strengths[position], coefficients, enough=decided)
        predicted = (val_inputs @ coefficients.T).argmax(dim=1)
        accuracies[position] = (predicted == val_labels).double().mean()
        if accuracies[position] >= accuracies[chosen]:
            chosen, best = position, coefficients
    return chosen, accuracies, fit_multinomial(inputs, labels, strengths[chosen], best)


def _best_scale(logits: Tensor, labels: Tensor) -> float:
    """The s of least mean cross-entropy of ``s · logits`` in [0, 100], by bisection of its derivative, which only rises."""

    def rises(scale: float) -> bool:
        expected = ((scale * logits).softmax(dim=1) * logits).sum(dim=1)
        return bool((expected - logits.gather(1, labels[:, None])[:, 0]).sum() > 0)

    low, high = 0.0, LARGEST_SCALE
    if not rises(high):
        return high
    middle = (low + high) / 2
    while low < middle < high:
        low, high = (low, middle) if rises(middle) else (middle, high)
        middle = (low + high) / 2
    return middle


def _check_columns(name: str, tensor: Tensor, other: Tensor) -> None:
    if tensor.ndim != 2 or tensor.shape[1] != other.shape[1]:
        raise ShapeError(f"{name} must have one column for each of the {other.shape[1]} source classes, got {tuple(tensor.shape)}.")
