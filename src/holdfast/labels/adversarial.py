"""Labels that are best in the worst case, among all that agree with what is known of the voters' errors.

A few examples with known truth bound how often each voter is right. Every assignment of class probabilities to the unlabelled items that
keeps these bounds is possible; the label returned minimises the largest expected loss over them (Mazzetto et al., ICML 2021; Balsubramani
and Freund, COLT 2015). Nothing is assumed about how voters depend on each other, so copies of a voter add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.special import logsumexp, softmax

from holdfast.errors import ConfigError, DataError, ShapeError
from holdfast.labels.arrays import ABSTAIN, FloatArray, IntArray, check_votes
from holdfast.labels.votes import vote_statistics

__all__ = ["Adversarial", "accuracy_bounds", "adversarial_labels"]


_linear_program: Any = optimize.linprog  # whose stubs know no sparse matrices


@dataclass(frozen=True)
class Adversarial:
    """The solution.

    Args:
        probs: Class probabilities (N, K); uniform for items without votes.
        weights: What a vote of each voter counts (M,) in them, in nats; 0 where its bounds do not bind. For the loss ``log`` alone.
        risk: The largest expected loss per voted item over all possible truths: a guarantee, if the bounds hold.
        bounds: Accuracy of each voter, low and high (M, 2).
    """

    probs: FloatArray
    weights: FloatArray | None
    risk: float
    bounds: FloatArray


def accuracy_bounds(votes: Any, true_labels: Any, num_classes: int, *, confidence: float = 0.9) -> FloatArray:
    """Wilson intervals (M, 2) of each voter's accuracy on labelled items; [0, 1] for a voter without votes there.

    Args:
        votes: Classes (N, M), -1 for no vote.
        true_labels: Known classes (N,).
        num_classes: K.
        confidence: Of each interval. Wider ones are safer and say less.

    Raises:
        ConfigError: The confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: expected a number between 0 and 1, got {confidence:g}.")
    from scipy.stats import norm

    statistics = vote_statistics(votes, num_classes, true_labels=np.asarray(true_labels))
    z = float(norm.ppf((1 + confidence) / 2))
    n = np.maximum(statistics.judged, 1)
    share = np.nan_to_num(statistics.accuracy, nan=0.5)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    bounds = np.clip(np.stack([centre - half, centre + half], axis=1), 0, 1)
    bounds[statistics.judged == 0] = (0.0, 1.0)
    return bounds


def adversarial_labels(votes: Any, num_classes: int, bounds: Any, *, loss: str = "log") -> Adversarial:
    """Minimise the largest expected loss over all truths within the bounds.

    With the loss ``log`` the solution is the possible truth of largest entropy: a softmax of weighted votes, found as a smooth convex
    problem in one weight a bound. With ``zero-one`` it is a linear program, whose labels need not be unique.

    Args:
        votes: Classes (N, M), -1 for no vote.
        num_classes: K.
        bounds: Share of its votes that each voter has right, low and high (M, 2); see :func:`accuracy_bounds`.
        loss: ``log`` or ``zero-one``.

    Raises:
        DataError: No truth is within all bounds.
        ConfigError: The loss is unknown.
    """
    found = check_votes(votes, num_classes)
    limits = np.asarray(bounds, dtype=np.float64)
    if limits.shape != (found.shape[1], 2) or not ((limits[:, 0] <= limits[:, 1]) & (limits >= 0).all(1) & (limits <= 1).all(1)).all():
        raise ShapeError(f"bounds must be ({found.shape[1]}, 2), shares with the low one first, got {limits.tolist()[:3]}.")
    if loss not in ("log", "zero-one"):
        raise ConfigError(f"loss: expected log or zero-one, got {loss!r}.")
    voted = (found != ABSTAIN).any(axis=1)
    if not voted.any():
        raise DataError("adversarial: there is no vote, so there is nothing to label.")
    problem = _Problem.of(found[voted], num_classes, limits)
    problem.check_possible()
    solved, weights, risk = problem.solve_log() if loss == "log" else problem.solve_zero_one()
    probs = np.full((len(found), num_classes), 1 / num_classes)
    probs[voted] = solved[problem.pattern_of]
    return Adversarial(probs, weights, risk, limits)


@dataclass(frozen=True)
class _Problem:
    """Items with the same votes are alike, so one distribution is sought for each of P patterns.

    Args:
        pattern_of: Pattern of each voted item.
        share: Share (P,) of the items that each pattern has.
        agreement: (M, P · K): times the distributions, the accuracy of each voter on its own votes.
        low: Bounds (M,).
        high: Bounds (M,).
        given: Votes (M,) of each voter.
        items: Voted items.
        num_classes: K.
    """

    pattern_of: Any
    share: FloatArray
    agreement: sparse.csr_matrix
    low: FloatArray
    high: FloatArray
    given: IntArray
    items: int
    num_classes: int

    @classmethod
    def of(cls, votes: Any, num_classes: int, bounds: FloatArray) -> _Problem:
        patterns, pattern_of, counts = np.unique(votes, axis=0, return_inverse=True, return_counts=True)
        rows, voters = np.nonzero(patterns != ABSTAIN)
        given = (votes != ABSTAIN).sum(axis=0)
        values = counts[rows] / given[voters]
        columns = rows * num_classes + patterns[rows, voters]
        agreement = sparse.csr_matrix((values, (voters, columns)), shape=(votes.shape[1], len(patterns) * num_classes))
        silent = given == 0  # and so has no accuracy here that could be bounded
        low, high = np.where(silent, 0.0, bounds[:, 0]), np.where(silent, 1.0, bounds[:, 1])
        return cls(np.ravel(pattern_of), counts / len(votes), agreement, low, high, given, len(votes), num_classes)

    def check_possible(self) -> None:
        """Refuse bounds that contradict each other, with how far they would have to give."""
        size, voters = self.agreement.shape[1], len(self.low)
        slack = sparse.csr_matrix(np.ones((voters, 1)))
        answer = _linear_program(
            np.r_[np.zeros(size), 1.0],
            A_ub=sparse.vstack([sparse.hstack([self.agreement, -slack]), sparse.hstack([-self.agreement, -slack])]),
            b_ub=np.r_[self.high, -self.low],
            A_eq=sparse.hstack([self._sums(), sparse.csr_matrix((len(self.share), 1))]),
            b_eq=np.ones(len(self.share)),
            bounds=(0, None),
        )
        assert answer.status == 0, answer.message
        if answer.fun > 1e-7:
            raise DataError(
                f"adversarial: no truth agrees with all voters' accuracies; widen each of the bounds by {answer.fun:.3f}, "
                "by a higher confidence or more examples with known truth."
            )

    def _sums(self) -> sparse.csr_matrix:
        return sparse.kron(sparse.identity(len(self.share)), np.ones((1, self.num_classes)), format="csr")

    def solve_log(self) -> tuple[FloatArray, FloatArray, float]:
        """Largest entropy within the bounds, by its dual: two multipliers of at least 0 for each voter."""
        voters = len(self.low)

        def dual(multipliers: FloatArray) -> tuple[float, FloatArray]:
            lower, upper = multipliers[:voters], multipliers[voters:]
            scores = self._scores(lower - upper)
            value = self.share @ logsumexp(scores, axis=1) - lower @ self.low + upper @ self.high
            reached = self.agreement @ softmax(scores, axis=1).ravel()
            return float(value), np.r_[reached - self.low, self.high - reached]

        answer = optimize.minimize(
            dual,
            np.zeros(2 * voters),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * (2 * voters),
            options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-12, "gtol": 1e-7},
        )
        weights = answer.x[:voters] - answer.x[voters:]
        return softmax(self._scores(weights), axis=1), weights * self.items / np.maximum(self.given, 1), float(answer.fun)

    def _scores(self, weights: FloatArray) -> FloatArray:
        """Weighted votes (P, K): the share of a pattern is taken out, since the entropy is weighted by it too."""
        return np.asarray((self.agreement.T @ weights).reshape(-1, self.num_classes) / self.share[:, None])

    def solve_zero_one(self) -> tuple[FloatArray, None, float]:
        """The linear program: labels q, multipliers of the bounds, and the worst loss of each pattern, all at once."""
        patterns, voters, size = len(self.share), len(self.low), self.agreement.shape[1]
        spread = sparse.kron(sparse.identity(patterns), np.ones((self.num_classes, 1)), format="csr")
        per_item = sparse.diags(np.repeat(self.share, self.num_classes))
        # t_p >= -share_p q_pk + sum_j (lower_j - upper_j) agreement_jpk, for each p and k
        rows = sparse.hstack([-per_item, self.agreement.T, -self.agreement.T, -spread])
        answer = _linear_program(
            np.r_[np.zeros(size), -self.low, self.high, np.ones(patterns)],
            A_ub=rows,
            b_ub=np.zeros(size),
            A_eq=sparse.hstack([self._sums(), sparse.csr_matrix((patterns, 2 * voters + patterns))]),
            b_eq=np.ones(patterns),
            bounds=[(0, None)] * (size + 2 * voters) + [(None, None)] * patterns,
        )
        assert answer.status == 0, answer.message
        labels = np.clip(answer.x[:size].reshape(patterns, -1), 0, 1)
        return labels / labels.sum(axis=1, keepdims=True), None, float(1 + answer.fun)
