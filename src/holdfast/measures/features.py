"""How large, spread out and separated by class the features of a network are: formulas, tensors in, numbers out.

``N`` examples, ``D`` feature dimensions, ``K`` classes. Inputs may be of any floating type; everything is computed in float64, without
gradient. Entropies are those of Faivishevsky and Goldberger (NIPS 2008), up to a constant; they are biased and depend on N, so only
values for the same N can be compared, and under several ranks features are gathered first: no number here is a mean of per-rank values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from holdfast.checks import check_labels, check_matrix
from holdfast.errors import ShapeError

__all__ = [
    "ConditionalEntropy",
    "PcaView",
    "class_entropies",
    "conditional_entropy",
    "differential_entropy",
    "feature_norm",
    "gradient_norm",
    "mutual_information",
    "norm_of_mean_feature",
    "pca_view",
]

BLOCK = 4096
"""Rows between which distances are computed at a time: at most BLOCK² numbers are in memory."""

FLOOR = 1e-6
"""Two features count as no closer than this, times √D: the logarithm of the distance of equal ones would be infinite."""


class ConditionalEntropy(NamedTuple):
    """Entropy ``value`` in nats given the class; ``left_out`` counts the examples that are alone in theirs."""

    value: float
    left_out: int


class PcaView(NamedTuple):
    """Features seen from their first two principal directions.

    ``mean`` (D,); ``components`` (2, D), unit rows whose entry of largest magnitude is positive; ``projection`` (N, 2) of the centred
    features; ``explained_variance_ratio`` (2,), shares of the whole variance. Fewer than 2 where N or D is 1.
    """

    mean: Tensor
    components: Tensor
    projection: Tensor
    explained_variance_ratio: Tensor


def feature_norm(features: Tensor) -> float:
    """Mean Euclidean norm of the features.

    Args:
        features: Features (N, D).

    Returns:
        At least 0; NaN without examples.

    Raises:
        ShapeError: ``features`` is no matrix.

    Example:
        >>> feature_norm(torch.tensor([[3.0, 4.0], [0.0, -1.0]]))
        3.0
    """
    check_matrix("features", features)
    return float(_wide(features).norm(dim=1).mean())


def norm_of_mean_feature(features: Tensor) -> float:
    """Euclidean norm of the mean feature, whose logarithm the release of AdaRand (commit 25cc27d) logs as feature norm.

    Args:
        features: Features (N, D).

    Returns:
        At most :func:`feature_norm`; NaN without examples.

    Raises:
        ShapeError: ``features`` is no matrix.

    Example:
        >>> norm_of_mean_feature(torch.tensor([[3.0, 4.0], [-3.0, 4.0]]))
        4.0
    """
    check_matrix("features", features)
    return float(_wide(features).mean(dim=0).norm())


def differential_entropy(features: Tensor, *, full: bool = False) -> float:
    """Differential entropy, estimated from the distances of all pairs.

    Yamaguchi et al., CVPR 2024, Eq. (4): D times the mean of log d over ordered pairs, with d at least 1e-6·√D. The paper leaves out
    an additive constant that depends on D alone. The release adds 1e-6 to each coordinate difference instead of the floor, which is the
    same for equal features and differs by less than 1e-6 in relative terms otherwise.

    Args:
        features: Features (N, D).
        full: Whether the constant, log(volume of the D-dimensional unit ball) + 1, is added.

    Returns:
        Nats; NaN for fewer than two examples.

    Raises:
        ShapeError: ``features`` is no matrix.

    Example:
        >>> differential_entropy(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        0.0
        >>> round(differential_entropy(torch.tensor([[0.0, 0.0], [0.0, math.e]])), 6)
        2.0
    """
    check_matrix("features", features)
    count, width = features.shape
    if count < 2:
        return math.nan
    floor = FLOOR * math.sqrt(width)
    total = sum(float(distances.clamp_min(floor).log().sum()) for distances in _pair_distances(_wide(features)))
    entropy = width * total / (count * (count - 1) / 2)
    return entropy + _log_ball_volume(width) + 1 if full else entropy


def class_entropies(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """:func:`differential_entropy` of the features of each class.

    Args:
        features: Features (N, D).
        labels: Classes (N,), integers from 0 to K - 1.
        num_classes: K.

    Returns:
        Nats (K,), float64 on the CPU; NaN for classes of fewer than two examples.

    Raises:
        ShapeError: ``features`` is no matrix, or ``labels`` do not fit it.

    Example:
        >>> class_entropies(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([0., nan], dtype=torch.float64)
    """
    check_matrix("features", features)
    check_labels(labels, len(features))
    entropies = [differential_entropy(features[labels == label]) for label in range(num_classes)]
    return torch.tensor(entropies, dtype=torch.float64)


def conditional_entropy(features: Tensor, labels: Tensor) -> ConditionalEntropy:
    """Mean entropy within classes, weighted by the classes' sizes, over classes of two or more examples.

    Yamaguchi et al., CVPR 2024, section 3: Ĥ(z|y) = Σ (n_k / n) Ĥ(z | y = k), n the examples of those classes.

    Args:
        features: Features (N, D).
        labels: Classes (N,), integers from 0.

    Returns:
        The entropy in nats, NaN where no class has two examples, and how many examples were left out.

    Raises:
        ShapeError: ``features`` is no matrix, or ``labels`` do not fit it.

    Example:
        >>> conditional_entropy(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1]))
        ConditionalEntropy(value=0.0, left_out=1)
    """
    check_matrix("features", features)
    check_labels(labels, len(features))
    counts = labels.bincount().tolist()
    sizes = {label: count for label, count in enumerate(counts) if count >= 2}
    measured = sum(sizes.values())
    weighted = sum(size * differential_entropy(features[labels == label]) for label, size in sizes.items())
    return ConditionalEntropy(weighted / measured if measured else math.nan, len(features) - measured)


def mutual_information(features: Tensor, labels: Tensor) -> float:
    """Information in nats that features and classes have in common: entropy minus conditional entropy.

    The additive constants cancel. The estimate may be negative for small classes or features without clusters, and is not clipped.

    Args:
        features: Features (N, D).
        labels: Classes (N,), integers from 0.

    Returns:
        NaN where one of the entropies is.

    Raises:
        ShapeError: ``features`` is no matrix, or ``labels`` do not fit it.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [math.e], [1 + math.e]])
        >>> mutual_information(features, torch.tensor([0, 0, 1, 1])) > 0
        True
    """
    return differential_entropy(features) - conditional_entropy(features, labels).value


def gradient_norm(logits: Tensor, labels: Tensor, features: Tensor) -> float:
    """Frobenius norm of the gradient of the mean cross-entropy with respect to the weight of the head.

    Yamaguchi et al., CVPR 2024, Eq. (5), averaged over the examples: (1/N) Σ (p_i - onehot(y_i)) z_iᵀ. Free of penalty terms and of the
    cost of a backward pass.

    Args:
        logits: Scores before softmax (N, K).
        labels: Classes (N,), integers from 0 to K - 1.
        features: Features (N, D) that the head took.

    Returns:
        At least 0; NaN without examples.

    Raises:
        ShapeError: The inputs are no matrices of equally many rows, or ``labels`` do not fit them.

    Example:
        >>> gradient_norm(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[3.0, 4.0]])) / math.sqrt(0.5)
        5.0
    """
    check_matrix("logits", logits, symbols="(N, K)")
    check_matrix("features", features)
    check_labels(labels, len(logits))
    if len(logits) != len(features):
        raise ShapeError(f"logits and features must be of the same examples, got {len(logits)} and {len(features)} rows")
    error = _wide(logits).softmax(dim=1) - one_hot(labels.long(), logits.shape[1])
    return float((error.T @ _wide(features)).norm()) / len(features) if len(features) else math.nan


def pca_view(features: Tensor) -> PcaView:
    """The two directions in which features vary most, and where each example lies along them.

    Args:
        features: Features (N, D), such as those of 1024 test examples drawn at random.

    Returns:
        Tensors in float64, on the device of ``features``.

    Raises:
        ShapeError: ``features`` is no matrix, or has no rows.

    Example:
        >>> view = pca_view(torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 5.0]]))
        >>> view.mean.tolist(), view.projection[:, 0].round(decimals=6).tolist()
        ([0.0, 3.0], [-2.0, 0.0, 2.0])
    """
    check_matrix("features", features)
    if not len(features):
        raise ShapeError("features must have at least one row for a PCA view, got none")
    wide = _wide(features)
    mean = wide.mean(dim=0)
    _, singular, directions = torch.linalg.svd(wide - mean, full_matrices=False)
    components = directions[:2]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    components = torch.where(largest < 0, -components, components)
    variance = singular.square()
    ratio = variance[:2] / variance.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return PcaView(mean, components, (wide - mean) @ components.T, ratio)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().double()


def _pair_distances(features: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of all pairs, each pair once, in parts.

    From differences, not from inner products: |a|² + |b|² - 2ab loses close pairs.
    """
    blocks = features.split(BLOCK)
    for number, block in enumerate(blocks):
        yield torch.pdist(block)
        for other in blocks[number + 1 :]:
            yield torch.cdist(block, other, compute_mode="donot_use_mm_for_euclid_dist")


def _log_ball_volume(width: int) -> float:
    """Logarithm of the volume of the unit ball in ``width`` dimensions."""
    return width / 2 * math.log(math.pi) - math.lgamma(width / 2 + 1)
