"""Labels revised with the help of rows whose truth is known: what the features say of an example and what its label says, together.

Where wrong labels follow from the input, as those of rules do, F is often near singular and no loss is corrected by it. Yet a label still
tells something. A judge that was taught by known rows gives P(true | features); the likeliest F under that judge says how classes are
labelled; and Bayes' rule joins them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.arrays import ABSTAIN, FloatArray, IntArray, check_label_array, check_probabilities
from holdfast.labels.probabilities import STRENGTHS, dealt_out, fitted_probabilities

__all__ = ["judged_by_known", "likeliest_transition", "posterior_of_truth"]

SMALLEST = 1e-12


def judged_by_known(features: Any, known: Any, num_classes: int, *, folds: int = 5, seed: int = 0) -> FloatArray:
    """P(true | features) (N, K) of every example, by logistic regression on those whose truth is known.

    The strength of the penalty is the one with the best log-likelihood of known classes in cross-validation, since the probabilities are to
    be taken at their word. A known example is judged without itself.

    Args:
        features: Features (N, D), dense or sparse.
        known: True classes (N,), -1 where they are not known.
        num_classes: K.
        folds: How many parts the known examples are cut into.
        seed: Seed of the cut.

    Raises:
        DataError: A class has no known example, so nothing could ever be judged to be of it.
    """
    truth = np.asarray(known)
    rows = np.flatnonzero(truth != ABSTAIN)
    taught = check_label_array(truth[rows], num_classes, name="known")
    missing = np.flatnonzero(np.bincount(taught, minlength=num_classes) == 0)
    if len(missing):
        raise DataError(f"known: class {missing[0]} has no example whose truth is known; check some of each class.")
    table: Any = features if sparse.issparse(features) else np.asarray(features, dtype=np.float64)
    parts = dealt_out(taught, min(folds, len(taught)), seed)
    held_out = {strength: _held_out(table[rows], taught, num_classes, parts, strength) for strength in STRENGTHS}
    best = max(STRENGTHS, key=lambda strength: float(np.log(held_out[strength][np.arange(len(rows)), taught] + SMALLEST).mean()))
    probs = np.zeros((len(truth), num_classes))
    probs[rows] = held_out[best]
    unknown = truth == ABSTAIN
    if unknown.any():
        classes, found = fitted_probabilities(table, truth, unknown, best)
        probs[np.ix_(unknown, classes)] = found
    return probs


def _held_out(table: Any, labels: IntArray, num_classes: int, parts: IntArray, strength: float) -> FloatArray:
    """Probabilities (n, K) of each example by a model fitted on the other parts."""
    probs = np.zeros((len(labels), num_classes))
    for part in np.unique(parts):
        classes, found = fitted_probabilities(table, labels, parts == part, strength)
        probs[np.ix_(parts == part, classes)] = found
    return probs


def likeliest_transition(probs: Any, labels: Any, *, smoothing: float = 1.0, iterations: int = 500, tol: float = 1e-7) -> FloatArray:
    """The F under which the labels are likeliest, given the probabilities of the true classes.

    Maximises ``Σ_i log Σ_k p_ik F[k, label_i] + (s / K) Σ_kl log F[k, l]``, which is concave, by expectation and maximisation.

    Args:
        probs: P(true | features) (N, K) by a judge that has not seen the labels. It should be calibrated: what it is unsure of beyond need
            ends up in F as noise.
        labels: Observed classes (N,).
        smoothing: s, pseudo-examples a row of F, spread evenly over the labels.
        iterations: The most there are.
        tol: Stop where no entry of F changes by more.

    Returns:
        F (K, K), rows true.

    Raises:
        ConfigError: The smoothing is negative.
    """
    if not smoothing >= 0:
        raise ConfigError(f"smoothing: expected a number of at least 0, got {smoothing:g}.")
    table, observed = _checked(probs, labels)
    classes = table.shape[1]
    seen = sparse.csr_matrix((np.ones(len(observed)), (observed, np.arange(len(observed)))), shape=(classes, len(observed)))
    transition = _rows((seen @ table).T + smoothing / classes)
    for _ in range(iterations):
        latest = _rows((seen @ _joined(table, observed, transition)).T + smoothing / classes)
        moved = float(np.abs(latest - transition).max())
        transition = latest
        if moved <= tol:
            break
    return transition


def posterior_of_truth(probs: Any, labels: Any, transition: Any) -> FloatArray:
    """P(true | features, label) (N, K), proportional to ``p_ik F[k, label_i]``: label and features independent given the truth.

    Args:
        probs: P(true | features) (N, K).
        labels: Observed classes (N,).
        transition: F (K, K), rows true.
    """
    table, observed = _checked(probs, labels)
    matrix = np.asarray(transition, dtype=np.float64)
    if matrix.shape != (table.shape[1], table.shape[1]):
        raise ShapeError(f"transition must be ({table.shape[1]}, {table.shape[1]}), got {matrix.shape}.")
    return _joined(table, observed, matrix)


def _checked(probs: Any, labels: Any) -> tuple[FloatArray, IntArray]:
    table = check_probabilities(probs)
    observed = check_label_array(labels, table.shape[1])
    if len(observed) != len(table):
        raise ShapeError(f"probs and labels must be of one length, got {len(table)} and {len(observed)}.")
    return table, observed


def _joined(table: FloatArray, observed: IntArray, transition: FloatArray) -> FloatArray:
    joint = table * transition.T[observed]
    total = joint.sum(axis=1, keepdims=True)
    return np.where(total > 0, joint / np.where(total > 0, total, 1.0), table)  # a label that F rules out tells nothing


def _rows(counts: FloatArray) -> FloatArray:
    """Shares; a class that no example is of is labelled evenly."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1 / counts.shape[1])
