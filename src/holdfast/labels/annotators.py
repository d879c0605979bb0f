"""Dawid and Skene's model of several annotators (Applied Statistics, 1979), fitted by expectation and maximisation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import logsumexp

from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.arrays import ABSTAIN, FloatArray, IntArray, check_votes
from holdfast.labels.majority import majority_probabilities

__all__ = ["DawidSkene", "dawid_skene"]

log = logging.getLogger("holdfast")

FLOOR = 1e-10
FEW_ITEMS = 5


@dataclass(frozen=True)
class DawidSkene:
    """A fitted model.

    Args:
        probs: Posterior (N, K) of the true class; the prior for items without votes.
        prior: Share (K,) of each true class.
        confusion: For each voter P(observed | true), (M, K, K); one more observed symbol, the last, where abstentions are modelled.
        log_likelihoods: Of the votes, after each iteration.
        converged: Whether it stopped by itself.
    """

    probs: FloatArray
    prior: FloatArray
    confusion: FloatArray
    log_likelihoods: tuple[float, ...]
    converged: bool


def dawid_skene(
    votes: Any,
    num_classes: int,
    *,
    iterations: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.0,
    one_coin: bool = False,
    abstain: str = "ignore",
    known: IntArray | None = None,
) -> DawidSkene:
    """Estimate how each voter errs and, from that, what is true.

    Votes are independent given the truth. Starts from shares of votes; each iteration estimates the voters, then the truth. Rows without
    votes take no part and get the prior.

    Args:
        votes: Classes (N, M), -1 where a voter abstains.
        num_classes: K.
        iterations: The most there are.
        tol: Stop where the log-likelihood changes by less, per item; 0 for never.
        smoothing: Added to each count of a voter's matrix; 0.01 to 1 helps where voters have few items.
        one_coin: Whether a voter is described by its accuracy alone, its errors spread evenly.
        abstain: ``ignore``, or ``model``: to abstain is one more thing to observe.
        known: True classes (N,) that are known, -1 elsewhere; they are held fixed.

    Raises:
        DataError: There is no vote at all.
        ConfigError: An option is out of its range.
    """
    found = check_votes(votes, num_classes)
    _check_options(iterations, smoothing, one_coin, abstain)
    voted = (found != ABSTAIN).any(axis=1)
    if not voted.any():
        raise DataError("dawid-skene: there is no vote, so there is nothing to estimate from.")
    _warn_of_few(found)
    if abstain == "ignore":
        _warn_of_single_minded(found)
    rows = found[voted]
    indicator = _indicator(rows, num_classes, abstain)
    symbols = indicator.shape[1] // rows.shape[1]
    fixed = _Fixed.of(known, voted, len(found), num_classes)
    probs = fixed.put(majority_probabilities(rows, num_classes))
    likelihoods: list[float] = []
    converged = False
    for _ in range(iterations):
        prior = probs.mean(axis=0)
        confusion = _confusion(indicator, probs, symbols, smoothing, one_coin)
        probs, likelihood = _posterior(indicator, prior, confusion)
        probs = fixed.put(probs)
        likelihoods.append(likelihood)
        if len(likelihoods) > 1 and abs(likelihoods[-1] - likelihoods[-2]) < tol * len(rows):
            converged = True
            break
    everything = np.tile(prior, (len(found), 1))
    everything[voted] = probs
    return DawidSkene(fixed.put_all(everything), prior, confusion, tuple(likelihoods), converged)


def _check_options(iterations: int, smoothing: float, one_coin: bool, abstain: str) -> None:
    if iterations < 1:
        raise ConfigError(f"dawid-skene: expected at least 1 iteration, got {iterations}.")
    if not 0 <= smoothing < np.inf:
        raise ConfigError(f"dawid-skene: expected a smoothing of at least 0, got {smoothing:g}.")
    if abstain not in ("ignore", "model"):
        raise ConfigError(f"dawid-skene: expected abstain to be ignore or model, got {abstain!r}.")
    if one_coin and abstain == "model":
        raise ConfigError("dawid-skene: a single accuracy has no place for abstentions; use one_coin with abstain='ignore'.")


def _warn_of_few(votes: IntArray) -> None:
    per_voter = (votes != ABSTAIN).sum(axis=0)
    few = int((per_voter < FEW_ITEMS).sum())
    if few:
        log.warning(
            "dawid-skene: %d of %d voters have fewer than %d votes, so their matrices are guesses and the majority vote may do better; "
            "compare with it, or smooth",
            *(few, votes.shape[1], FEW_ITEMS),
        )


def _warn_of_single_minded(votes: IntArray) -> None:
    spoken = [np.unique(column[column != ABSTAIN]) for column in votes.T]
    single = sum(len(classes) == 1 for classes in spoken)
    if 2 * single > votes.shape[1]:
        log.warning(
            "dawid-skene: %d of %d voters only ever vote for one class, as rules do; with abstentions ignored nothing says when they are "
            "wrong, and the result may be far worse than the majority vote; model the abstentions, or weigh the votes by known examples",
            *(single, votes.shape[1]),
        )


@dataclass(frozen=True)
class _Fixed:
    """Items whose truth is known, as posteriors that no iteration changes."""

    of_all: IntArray
    of_voted: IntArray
    one_hot: FloatArray

    @classmethod
    def of(cls, known: IntArray | None, voted: Any, items: int, num_classes: int) -> _Fixed:
        labels = np.full(items, ABSTAIN) if known is None else np.asarray(known)
        if labels.shape != (items,):
            raise ShapeError(f"known must be ({items},), one entry for each item, got {labels.shape}.")
        return cls(labels, labels[voted], np.eye(num_classes))

    def put(self, probs: FloatArray) -> FloatArray:
        return self._put(probs, self.of_voted)

    def put_all(self, probs: FloatArray) -> FloatArray:
        return self._put(probs, self.of_all)

    def _put(self, probs: FloatArray, labels: IntArray) -> FloatArray:
        rows = labels != ABSTAIN
        if rows.any():
            probs[rows] = self.one_hot[labels[rows]]
        return probs


def _indicator(votes: IntArray, num_classes: int, abstain: str) -> sparse.csr_matrix:
    """(N, M · S), 1 where voter j says symbol o of S; where abstentions are modelled they are the last symbol."""
    symbols, observed = num_classes, votes
    if abstain == "model":
        symbols, observed = num_classes + 1, np.where(votes == ABSTAIN, num_classes, votes)
    rows, voters = np.nonzero(observed != ABSTAIN)
    columns = voters * symbols + observed[rows, voters]
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(votes), votes.shape[1] * symbols))


def _confusion(indicator: sparse.csr_matrix, probs: FloatArray, symbols: int, smoothing: float, one_coin: bool) -> FloatArray:
    """P(observed | true) of each voter (M, K, S) from the current truth (N, K): the M step."""
    num_classes = probs.shape[1]
    counts = (indicator.T @ probs).reshape(-1, symbols, num_classes).transpose(0, 2, 1) + smoothing
    if one_coin:
        right = np.trace(counts, axis1=1, axis2=2) / np.maximum(counts.sum(axis=(1, 2)), FLOOR)
        spread = ((1 - right) / (num_classes - 1))[:, None, None]
        counts = np.where(np.eye(num_classes, dtype=bool), right[:, None, None], spread)
    counts = np.maximum(counts, FLOOR)
    return counts / counts.sum(axis=2, keepdims=True)


def _posterior(indicator: sparse.csr_matrix, prior: FloatArray, confusion: FloatArray) -> tuple[FloatArray, float]:
    """The truth (N, K) by the current voters, and the log-likelihood of the votes: the E step."""
    symbol_scores = np.log(confusion).transpose(0, 2, 1).reshape(-1, len(prior))
    joint = indicator @ symbol_scores + np.log(np.maximum(prior, np.finfo(np.float64).tiny))
    total = logsumexp(joint, axis=1, keepdims=True)
    return np.exp(joint - total), float(total.sum())
