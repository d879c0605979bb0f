"""One door to the estimators that need a model's probabilities: by name or all at once, with intervals and a recommendation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from holdfast.errors import ConfigError, suggest
from holdfast.labels.anchor_points import PERCENTILE, anchors, dual_t, normalised_rows
from holdfast.labels.arrays import FloatArray, IntArray, check_label_array, check_probabilities
from holdfast.labels.confident_learning import confident_joint
from holdfast.labels.probabilities import expected_calibration_error
from holdfast.labels.transition import cond, rho

__all__ = ["ESTIMATORS", "Estimate", "Intervals", "bootstrap", "estimate_transition", "estimated", "finish", "intervals_of"]

log = logging.getLogger("holdfast")

ESTIMATORS = ("auto", "anchors", "dual-t", "confident-joint")
OVERCONFIDENT = 0.1
"""How much confidence may exceed accuracy on the noisy labels before the probabilities are not taken at their word."""

BLIND = 0.5
"""Distance of T_club to the identity below which anchors see no noise."""


@dataclass(frozen=True)
class Intervals:
    """95 % bootstrap intervals over examples; the probabilities are those given, so the model's own uncertainty is not in them.

    Args:
        low: Of each entry of F (K, K).
        high: As above.
        rho: Of the spread factor, low and high.
        draws: Resamples.
    """

    low: FloatArray
    high: FloatArray
    rho: tuple[float, float]
    draws: int


@dataclass(frozen=True)
class Estimate:
    """An estimated matrix.

    Args:
        estimator: Its name; never ``auto``.
        transition: F (K, K), rows true.
        rho: Factor by which correcting with it spreads the loss.
        cond: Its condition number.
        intervals: Of its entries, where they were asked for.
        ece: Calibration error of the probabilities against the noisy labels, where there are any.
        overconfidence: Mean confidence less accuracy on the noisy labels.
        anchor_distance: ``‖T_club - I‖``, Frobenius: near 0 where anchors see no noise.
        others: What the other estimators gave, for ``auto``.
        reason: Why this one, in words, for ``auto``.
    """

    estimator: str
    transition: FloatArray
    rho: float
    cond: float
    intervals: Intervals | None = None
    ece: float | None = None
    overconfidence: float | None = None
    anchor_distance: float | None = None
    others: dict[str, FloatArray] | None = None
    reason: str = ""

    def record(self, data: str, rows: int, classes: Sequence[str]) -> dict[str, Any]:
        """What a ``.json`` file of the matrix says, which ``--transition`` reads.

        Args:
            data: The dataset as the user named it.
            rows: How many labels were looked at.
            classes: Names of the classes, in the order of the matrix.
        """
        record = {"schema": 1, "data": data, "rows": rows, "classes": list(classes)}
        record |= {field.name: getattr(self, field.name) for field in fields(self) if field.name != "intervals"}
        return record | ({"intervals": asdict(self.intervals)} if self.intervals is not None else {})


def estimate_transition(
    probs: Any,
    labels: Any,
    *,
    estimator: str = "auto",
    percentile: float | None = PERCENTILE,
    top_m: int = 1,
    shrink: float = 0.0,
    draws: int = 0,
    seed: int = 0,
) -> Estimate:
    """Estimate F from noisy-class probabilities and the labels.

    ``auto`` computes all and takes Dual-T where the network is overconfident, as after memorising, and anchors therefore see no noise;
    else the confident joint.

    Args:
        probs: Noisy-class probabilities (N, K), out of sample.
        labels: Observed classes (N,).
        estimator: ``auto``, ``anchors``, ``dual-t`` or ``confident-joint``.
        percentile: Of :func:`anchors`.
        top_m: Of :func:`anchors`.
        shrink: How far the result is drawn to the identity, from 0 to 1.
        draws: Bootstrap resamples for intervals; 0 for none.
        seed: Seed of the resamples.

    Raises:
        ConfigError: The estimator is unknown or an option out of its range.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError(f"estimator: unknown name {estimator!r}. {suggest(estimator, ESTIMATORS)}")
    table = check_probabilities(probs)
    observed = check_label_array(labels, table.shape[1])
    by_name = _functions(percentile, top_m)
    ece, club = expected_calibration_error(table, observed), by_name["anchors"](table, observed)
    overconfidence = float(table.max(axis=1).mean() - (table.argmax(axis=1) == observed).mean())
    distance = float(np.linalg.norm(club - np.eye(len(club))))
    chosen, reason = _recommended(ece, overconfidence, distance) if estimator == "auto" else (estimator, "")
    found = finish(by_name[chosen](table, observed), shrink)
    others = (
        {name: finish(run(table, observed), shrink) for name, run in by_name.items() if name != chosen} if estimator == "auto" else None
    )

    def again(rows: IntArray) -> FloatArray:
        return finish(by_name[chosen](table[rows], observed[rows]), shrink)

    return Estimate(
        estimator=chosen,
        transition=found,
        rho=rho(found),
        cond=cond(found),
        intervals=bootstrap(again, len(observed), draws=draws, seed=seed) if draws else None,
        ece=ece,
        overconfidence=overconfidence,
        anchor_distance=distance,
        others=others,
        reason=reason,
    )


def estimated(estimator: str, transition: FloatArray, intervals: Intervals | None) -> Estimate:
    """An estimate that needs no probabilities, with what correcting with it would cost."""
    return Estimate(estimator, transition, rho(transition), cond(transition), intervals)


def finish(matrix: FloatArray, shrink: float = 0.0) -> FloatArray:
    """Entries clipped to [0, 1], rows normalised, then ``(1 - shrink) F + shrink I``.

    Raises:
        ConfigError: ``shrink`` is not between 0 and 1.
    """
    if not 0 <= shrink <= 1:
        raise ConfigError(f"shrink: expected a number from 0 to 1, got {shrink:g}.")
    return (1 - shrink) * normalised_rows(matrix) + shrink * np.eye(len(matrix))


def bootstrap(estimate: Callable[[IntArray], FloatArray], size: int, *, draws: int = 200, seed: int = 0) -> Intervals:
    """Percentile intervals of an estimate over resampled examples.

    Args:
        estimate: From rows, some repeated, to F (K, K).
        size: How many rows there are.
        draws: Resamples.
        seed: Their seed.
    """
    rng = np.random.default_rng(seed)
    level = log.level
    log.setLevel(logging.ERROR)  # what is worth a warning was said of the estimate itself
    try:
        samples = np.stack([estimate(rng.integers(0, size, size)) for _ in range(draws)])
    finally:
        log.setLevel(level)
    return intervals_of(samples)


def intervals_of(samples: FloatArray) -> Intervals:
    """The 2.5 and 97.5 percentiles of sampled matrices (draws, K, K)."""
    low, high = np.percentile(samples, (2.5, 97.5), axis=0)
    factors = np.percentile([rho(sample) for sample in samples], (2.5, 97.5))
    return Intervals(low, high, (float(factors[0]), float(factors[1])), len(samples))


def _functions(percentile: float | None, top_m: int) -> dict[str, Callable[[FloatArray, IntArray], FloatArray]]:
    return {
        "anchors": lambda probs, labels: anchors(probs, percentile=percentile, top_m=top_m).transition,
        "dual-t": lambda probs, labels: dual_t(probs, labels, percentile=percentile, top_m=top_m).transition,
        "confident-joint": lambda probs, labels: confident_joint(probs, labels).transition,
    }


def _recommended(ece: float, overconfidence: float, anchor_distance: float) -> tuple[str, str]:
    if overconfidence > OVERCONFIDENT and anchor_distance < BLIND:
        return "dual-t", (
            f"the model is surer of the labels than it is right by {overconfidence:.2f} (calibration error {ece:.2f}), and its anchors "
            f"see almost no noise (distance to the identity {anchor_distance:.2f})"
        )
    return "confident-joint", (
        f"the model is not overconfident of the noisy labels (confidence less accuracy {overconfidence:+.2f}, calibration error {ece:.2f}) "
        f"or its anchors see noise (distance to the identity {anchor_distance:.2f}), and dual-t would then count the noise twice"
    )
