"""Labels to look at: every example with a score for how well its label fits, worst first, and the class that would fit better."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from holdfast.errors import ConfigError, suggest
from holdfast.labels.arrays import FloatArray, IntArray, MaskArray, check_label_array, check_probabilities
from holdfast.labels.confident_learning import confident_classes, confident_thresholds

__all__ = ["SCORES", "Issues", "average_precision", "label_issues", "precision_at"]

SCORES = ("self-confidence", "normalized-margin", "confidence-weighted-entropy")
"""How well a label fits: its probability; that less the largest other one; the entropy beside it. The formulas are cleanlab's."""


class Issues(NamedTuple):
    """What was found, for each of N examples.

    Args:
        order: All examples (N,), the most suspect first.
        score: How well each label fits (N,), from 0, not at all, to 1.
        suggested: The most probable class (N,) besides the label.
        suspect: Whether (N,) the example is surely of another class: off the diagonal of the confident joint.
        margin: How much more probable (N,) the suggestion is than the label; negative where the label is the most probable.
    """

    order: IntArray
    score: FloatArray
    suggested: IntArray
    suspect: MaskArray
    margin: FloatArray


def label_issues(probs: Any, labels: Any, *, score: str = "self-confidence") -> Issues:
    """Rank examples by how badly their labels fit out-of-sample probabilities.

    With few classes all scores rank much alike. With many, and a model that is often unsure, self-confidence is best: a large margin then
    says that the model is sure of something else, which it seldom is.

    Args:
        probs: Noisy-class probabilities (N, K), out of sample.
        labels: Observed classes (N,).
        score: ``self-confidence``, ``normalized-margin`` or ``confidence-weighted-entropy``.

    Raises:
        ConfigError: The score is unknown.
    """
    if score not in SCORES:
        raise ConfigError(f"score: unknown name {score!r}. {suggest(score, SCORES)}")
    table = check_probabilities(probs)
    observed = check_label_array(labels, table.shape[1])
    everyone = np.arange(len(observed))
    own = table[everyone, observed]
    others = table.copy()
    others[everyone, observed] = -1.0
    suggested = others.argmax(axis=1)
    margin = others.max(axis=1) - own
    guesses = confident_classes(table, confident_thresholds(table, observed))
    values = _scores(score, table, own, margin)
    return Issues(
        order=np.argsort(values, kind="stable"),
        score=values,
        suggested=suggested.astype(np.int64),
        suspect=(guesses >= 0) & (guesses != observed),
        margin=margin,
    )


def _scores(name: str, table: FloatArray, own: FloatArray, margin: FloatArray) -> FloatArray:
    if name == "self-confidence":
        return own
    if name == "normalized-margin":
        return (1 - margin) / 2
    entropy = -(table * np.log(np.clip(table, 1e-12, 1))).sum(axis=1) / np.log(table.shape[1])
    ratio = entropy / np.clip(own, 1e-12, 1)
    return 1 - ratio / (1 + ratio)


def average_precision(wrong: Any, order: IntArray) -> float:
    """Mean, over the wrong labels, of the share of wrong ones among all that are ranked up to each; NaN where none is wrong.

    Args:
        wrong: Whether each label is wrong (N,).
        order: The ranking (N,), first to last.
    """
    hits = np.asarray(wrong, dtype=bool)[order]
    if not hits.any():
        return float("nan")
    shares = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(shares[hits].mean())


def precision_at(wrong: Any, order: IntArray, count: int) -> float:
    """Share of wrong labels among the first ``count`` of a ranking; arguments as above."""
    return float(np.asarray(wrong, dtype=bool)[order[:count]].mean())
