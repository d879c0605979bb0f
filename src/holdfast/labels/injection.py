"""Wrong labels made on purpose: class-conditional rules, and the labels of another model.

Every rule takes a generator or a seed, never the global random state, changes labels of ``rows`` alone (the training rows: validation and
test stay clean), and returns new labels, which of them changed, and the matrix F it draws from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np

from holdfast.errors import ConfigError, ShapeError
from holdfast.labels.arrays import FloatArray, IntArray, MaskArray, check_label_array, check_probabilities
from holdfast.labels.transition import check_transition, pair, symmetric

__all__ = [
    "Injected",
    "asymmetric",
    "class_prior",
    "draw_labels",
    "empirical_transition",
    "inject_asymmetric",
    "inject_class_prior",
    "inject_from_matrix",
    "inject_from_model",
    "inject_pair",
    "inject_symmetric",
]

Seed = int | np.random.Generator


class Injected(NamedTuple):
    """Labels with noise.

    Args:
        labels: Observed labels (N,).
        flipped: Where (N,) they differ from those given.
        transition: F (K, K) of the rule: what is expected, not what was drawn; where there is no such matrix, what was drawn.
    """

    labels: IntArray
    flipped: MaskArray
    transition: FloatArray


# ---------------------------------------------------------------------------------------------------------------------- rules


def inject_symmetric(
    labels: Any,
    num_classes: int,
    rate: float,
    *,
    seed: Seed = 0,
    self_flips: bool = False,
    exact: bool = False,
    rows: IntArray | None = None,
) -> Injected:
    """Replace labels by others, each class alike.

    Args:
        labels: True classes (N,).
        num_classes: K.
        rate: Share of the labels that is replaced, from 0 to below 1.
        seed: Seed or generator.
        self_flips: Whether the replacement is drawn from all K classes, so that 1/K of the replaced keep their class.
        exact: Whether exactly ``floor(rate · n)`` labels are replaced, else each by itself.
        rows: Rows that may change; all by default.

    Raises:
        ConfigError: The rate is out of its range.
    """
    check_rate(rate)
    replacement = symmetric(num_classes, 1.0, self_flips=self_flips)
    return _replace(labels, rate, replacement, symmetric(num_classes, rate, self_flips=self_flips), seed, exact, rows)


def inject_pair(
    labels: Any, num_classes: int, rate: float, *, seed: Seed = 0, exact: bool = False, rows: IntArray | None = None
) -> Injected:
    """Turn class ``y`` into ``y + 1``, the last into the first, with probability ``rate``; arguments as :func:`inject_symmetric`."""
    check_rate(rate)
    return _replace(labels, rate, pair(num_classes, 1.0), pair(num_classes, rate), seed, exact, rows)


def inject_asymmetric(
    labels: Any,
    num_classes: int,
    mapping: Mapping[int, int],
    rate: float,
    *,
    seed: Seed = 0,
    exact: bool = False,
    rows: IntArray | None = None,
) -> Injected:
    """Turn each class of ``mapping`` into the one it maps to, with probability ``rate``; other arguments as :func:`inject_symmetric`.

    With ``exact``, ``floor(rate · n)`` of all labels are chosen; those of classes that are not mapped stay as they are.
    """
    check_rate(rate)
    return _replace(labels, rate, asymmetric(num_classes, mapping, 1.0), asymmetric(num_classes, mapping, rate), seed, exact, rows)


def inject_class_prior(
    labels: Any, prior: FloatArray, rate: float, *, seed: Seed = 0, exact: bool = False, rows: IntArray | None = None
) -> Injected:
    """Replace labels by draws from one distribution, whatever they were.

    Args:
        labels: True classes (N,).
        prior: Probability of each class (K,) among the replacements.
        rate: As in :func:`inject_symmetric`, and so are the others.
    """
    check_rate(rate)
    transition = class_prior(prior, rate)
    return _replace(labels, rate, class_prior(prior, 1.0), transition, seed, exact, rows)


def inject_from_matrix(labels: Any, transition: Any, *, seed: Seed = 0, rows: IntArray | None = None) -> Injected:
    """Draw each observed label from the row of ``transition`` (K, K) of its true class; other arguments as :func:`inject_symmetric`."""
    matrix = check_transition(transition)
    true = check_label_array(labels, len(matrix))
    noisy = true.copy()
    chosen = chosen_rows(rows, len(true))
    noisy[chosen] = draw_labels(true[chosen], matrix, generator(seed).random(len(chosen)))
    return Injected(noisy, noisy != true, matrix)


def inject_from_model(labels: Any, probs: Any, *, mode: str = "argmax", seed: Seed = 0, rows: IntArray | None = None) -> Injected:
    """The labels that an auxiliary model gives, as correlated with the inputs as its errors are.

    Args:
        labels: True classes (N,).
        probs: What the model, in eval mode, says of each example (N, K).
        mode: ``argmax``, or ``sample``: drawn from ``probs``.
        seed: As in :func:`inject_symmetric`.
        rows: As in :func:`inject_symmetric`.

    Returns:
        With the empirical matrix over ``rows``, since the rule has none.
    """
    found = check_probabilities(probs)
    true = check_label_array(labels, found.shape[1])
    if len(true) != len(found):
        raise ShapeError(f"probs must have a row for each of the {len(true)} labels, got {len(found)}.")
    if mode not in ("argmax", "sample"):
        raise ConfigError(f"mode: expected argmax or sample, got {mode!r}.")
    chosen = chosen_rows(rows, len(true))
    noisy = true.copy()
    noisy[chosen] = found[chosen].argmax(axis=1) if mode == "argmax" else _inverse_cdf(found[chosen], generator(seed).random(len(chosen)))
    return Injected(noisy, noisy != true, empirical_transition(true[chosen], noisy[chosen], found.shape[1]))


# ------------------------------------------------------------------------------------------------------------------- matrices


def asymmetric(num_classes: int, mapping: Mapping[int, int], rate: float) -> FloatArray:
    """F (K, K) of noise that turns each class of ``mapping`` into the one it maps to.

    Raises:
        ConfigError: A class of the mapping is not among the K.
    """
    matrix = np.eye(num_classes)
    for source, target in mapping.items():
        if not (0 <= source < num_classes and 0 <= target < num_classes):
            raise ConfigError(f"mapping {source} -> {target}: expected classes from 0 to {num_classes - 1}.")
        matrix[source] = (1 - rate) * matrix[source] + rate * np.eye(num_classes)[target]
    return matrix


def class_prior(prior: Any, rate: float) -> FloatArray:
    """F (K, K) of noise that replaces a label by a draw from ``prior`` (K,), with probability ``rate``.

    Raises:
        ConfigError: The prior is no distribution.
    """
    q = np.asarray(prior, dtype=np.float64)
    if q.ndim != 1 or len(q) < 2 or not np.isfinite(q).all() or (q < 0).any() or abs(q.sum() - 1) > 1e-6:
        raise ConfigError(f"prior: expected probabilities (K,) that sum to 1, got {np.round(q, 4).tolist()}.")
    return (1 - rate) * np.eye(len(q)) + rate * q[None, :]


def empirical_transition(true: IntArray, observed: IntArray, num_classes: int) -> FloatArray:
    """Shares (K, K) of each observed class among the examples of each true one; the identity's row for a class without examples."""
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (true, observed), 1)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.eye(num_classes))


# ---------------------------------------------------------------------------------------------------------------------- draws


def draw_labels(labels: Any, transition: FloatArray, uniforms: FloatArray) -> IntArray:
    """The inverse-CDF rule: the number of entries of ``cumsum(F[y])`` that are at most ``u``, and at most K - 1.

    Args:
        labels: True classes (N,).
        transition: F (K, K).
        uniforms: Draws (N,) from [0, 1).
    """
    return _inverse_cdf(np.asarray(transition)[np.asarray(labels)], uniforms)


def _inverse_cdf(rows: FloatArray, uniforms: FloatArray) -> IntArray:
    below = np.cumsum(rows, axis=1) <= np.asarray(uniforms)[:, None]
    return cast(IntArray, np.minimum(below.sum(axis=1), rows.shape[1] - 1).astype(np.int64))


def generator(seed: Seed) -> np.random.Generator:
    """The generator itself, or one made from a seed."""
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)


def chosen_rows(rows: IntArray | None, size: int) -> IntArray:
    """The rows that may change.

    Raises:
        ShapeError: A row is named twice or is not there.
    """
    if rows is None:
        return np.arange(size)
    chosen = np.asarray(rows, dtype=np.int64)
    if len(np.unique(chosen)) != len(chosen) or (len(chosen) and not (chosen.min() >= 0 and chosen.max() < size)):
        raise ShapeError(f"rows must name rows from 0 to {size - 1}, each once.")
    return chosen


def check_rate(rate: float) -> None:
    """Refuse what is no rate, and 1: nothing of the truth would be left.

    Raises:
        ConfigError: Says so.
    """
    if rate == 1:
        raise ConfigError("rate 1: every label would be replaced and nothing of the truth be left; expected a rate from 0 to below 1.")
    if not 0 <= rate < 1:
        raise ConfigError(f"rate {rate:g}: expected a share of the labels from 0 to below 1, such as 0.4.")


def _replace(
    labels: Any, rate: float, replacement: FloatArray, expected: FloatArray, seed: Seed, exact: bool, rows: IntArray | None
) -> Injected:
    """Choose labels by ``rate`` and draw a replacement for each."""
    true = check_label_array(labels, len(expected))
    rng = generator(seed)
    chosen = chosen_rows(rows, len(true))
    hit = rng.permutation(chosen)[: int(rate * len(chosen) + 1e-9)] if exact else chosen[rng.random(len(chosen)) < rate]
    noisy = true.copy()
    noisy[hit] = draw_labels(true[hit], replacement, rng.random(len(hit)))
    return Injected(noisy, noisy != true, expected)
