"""Trace of a matrix that is known by its products, whole and by layer: Hutchinson's estimate with a sound stopping rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.measures.lanczos import Operator, keeping
from holdfast.measures.measurement import Budget, Measurement, Meter
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.probes import Distribution, draw_probes
from holdfast.measures.sums import dot

__all__ = ["TraceEstimate", "hutchinson_trace", "probe_values"]

CONFIDENCE = 0.95
LAG = 2
"""A layer whose interval is that many times wider than asked for, where the joint probes end, is worth probes of its own."""

TOO_SMALL = "budget: it does not allow two probes."

PILOT = 30
MARGIN = 1.3
"""The second stage has that many times the probes that the pilot's variance asks for, since that variance is an estimate too."""


@dataclass(frozen=True)
class TraceEstimate:
    """``total`` trace and those of the ``layers``, by name.

    Their intervals at 95 % are value ± t·stderr, t with ``probes`` - 1 degrees of freedom.
    ``late`` marks a run that met its accuracy only after half of the probes that it was allowed: among such runs the interval covers the
    truth less often than it says, since they were selected for a small standard error.
    """

    total: Measurement
    layers: Mapping[str, Measurement]
    probes: int
    late: bool


def hutchinson_trace(
    operator: Operator,
    *,
    rtol: float = 0.05,
    atol: float | None = None,
    min_probes: int = 10,
    max_probes: int = 1000,
    probes: Literal["joint", "block", "auto"] = "joint",
    stages: Literal[1, 2] = 1,
    distribution: Distribution = "rademacher",
    seed: int = 0,
    budget: Budget | None = None,
) -> TraceEstimate:
    """Trace by random vectors, until the half-width of a 95 % interval is at most ``max(rtol·|mean|, atol)`` for the total and each layer.

    A probe that all layers share costs one product and adds the blocks off the diagonal to a layer's variance; a layer's own probes do
    not, at one product each. Stopping when the running mean changes little, as others do, stops early by luck.

    Args:
        operator: A symmetric matrix; a curvature operator has layers, others only the total.
        rtol: Relative accuracy; 0.2 gives a quick look.
        atol: Absolute accuracy that is enough; None is 0 for the total and ``0.1·rtol·Σ|trace of layer|`` for
            layers, whose trace may cancel.
        min_probes: Fewest probes before the rule is asked; 30 where the interval must keep its promise.
        max_probes: Most probes, for each layer with probes of its own.
        probes: ``joint``; ``block``, every layer by itself; ``auto``, joint ones and then block probes for layers that lag far behind.
        stages: 1 stops as it goes; with 2 the number of probes is fixed beforehand, from 30 pilot probes that are not used again, so that
            the interval covers what it says.
        distribution: Of the probes.
        seed: Seed of the probes.
        budget: Limit in products or seconds.

    Raises:
        ConfigError: An option is out of range, or the budget allows fewer than two probes.

    Example:
        >>> hutchinson_trace(torch.diag(torch.arange(4.0).double())).total.value
        6.0
    """
    if rtol <= 0 or not 2 <= min_probes <= max_probes:
        raise ConfigError(f"rtol must be positive and 2 <= min_probes <= max_probes, got {rtol}, {min_probes}, {max_probes}.")
    search = _Search(
        operator, rtol, atol, min_probes, max_probes, distribution, seed, Meter(budget, operator, getattr(operator, "comm", None))
    )
    with keeping(operator):
        if probes == "block" and isinstance(operator, CurvatureOperator):
            return search.blocks(operator)
        estimate = search.two_stages() if stages == 2 else search.joint()
        if probes == "auto" and isinstance(operator, CurvatureOperator):
            return search.help_lagging(operator, estimate)
    return estimate


def probe_values(operator: Operator, probes: Tensor) -> Tensor:
    """zᵀ A z of each column of ``probes`` (P, m), in float64 (m,): their mean is Hutchinson's estimate of the trace."""
    return torch.stack([dot(*pair) for pair in zip(probes.T, (operator @ probes).T, strict=True)])


@dataclass
class _Search:
    """One estimate under way."""

    operator: Operator
    rtol: float
    atol: float | None
    min_probes: int
    max_probes: int
    distribution: Distribution
    seed: int
    meter: Meter

    def joint(self) -> TraceEstimate:
        """Probes of all layers at once, until the rule is met."""
        running = _Running()
        for row in self._samples(self.max_probes):
            running.add(row)
            if running.count >= self.min_probes and self._met(running).all():
                break
        return self._estimate(running)

    def two_stages(self) -> TraceEstimate:
        """Probes whose number is fixed by a pilot."""
        pilot, fresh = _Running(), _Running()
        for row in self._samples(min(PILOT, self.max_probes)):
            pilot.add(row)
        if pilot.count < 2:
            raise ConfigError(TOO_SMALL)
        tolerance = np.maximum(self._tolerance(pilot), np.finfo(float).tiny)
        needed = pilot.count * np.square(_half_width(pilot.stderr, pilot.count) / tolerance)
        count = int(np.clip(MARGIN * needed.max(), self.min_probes, self.max_probes))
        for row in self._samples(count, first=pilot.count):
            fresh.add(row)
        return self._estimate(fresh, sequential=False)

    def blocks(self, operator: CurvatureOperator) -> TraceEstimate:
        """Each layer by itself; their errors are independent."""
        layers = {name: self._alone(operator, name) for name in operator.names}
        value, variance = sum(one.value for one, _ in layers.values()), sum(one.stderr**2 for one, _ in layers.values())
        fewest = min(count for _, count in layers.values())
        met = bool(_half_width(math.sqrt(variance), fewest) <= max(self.rtol * abs(value), self.atol or 0))
        total = Measurement(value, math.sqrt(variance), self.meter.products, self.meter.seconds, met)
        late = any(one.met and count > self.max_probes / 2 for one, count in layers.values())
        return TraceEstimate(total, {name: one for name, (one, _) in layers.items()}, fewest, late)

    def help_lagging(self, operator: CurvatureOperator, joint: TraceEstimate) -> TraceEstimate:
        """Own probes for layers whose interval is far too wide."""
        floor = self._floor(sum(abs(layer.value) for layer in joint.layers.values()))
        layers = dict(joint.layers)
        for name, layer in joint.layers.items():
            if _half_width(layer.stderr, joint.probes) > LAG * max(self.rtol * abs(layer.value), floor) and self.meter.allows(2):
                layers[name], _ = self._alone(operator, name)
        total = Measurement(joint.total.value, joint.total.stderr, self.meter.products, self.meter.seconds, joint.total.met)
        return TraceEstimate(total, layers, joint.probes, joint.late)

    def _alone(self, operator: CurvatureOperator, name: str) -> tuple[Measurement, int]:
        before = self.meter.products
        block = _Search(
            operator.block(name), self.rtol, self.atol, self.min_probes, self.max_probes, self.distribution, self.seed, self.meter
        ).joint()
        one = block.total
        return Measurement(one.value, one.stderr, self.meter.products - before, one.seconds, one.met), block.probes

    def _samples(self, limit: int, first: int = 0) -> Iterator[NDArray[np.float64]]:
        """For probe ``first`` and those after it z_iᵀ (A z)_i of every layer, or the one number zᵀ A z."""
        together = getattr(self.operator, "probes_per_pass", 1)
        done = 0
        while done < limit and self.meter.allows():
            count = next(n for n in range(min(together, limit - done), 0, -1) if n == 1 or self.meter.allows(n))
            probes = draw_probes(self.operator, self.seed, count, first=first + done, distribution=self.distribution)
            values = self._values(probes)
            self.meter.add(count)
            done += count
            yield from values.cpu().numpy()

    def _values(self, probes: Tensor) -> Tensor:
        if isinstance(self.operator, CurvatureOperator):
            return self.operator.full_row_quads(probes)
        return probe_values(self.operator, probes)[:, None]

    def _met(self, running: _Running) -> NDArray[np.bool_]:
        return _half_width(running.stderr, running.count) <= self._tolerance(running)

    def _tolerance(self, running: _Running) -> NDArray[np.float64]:
        """What is asked for: of the total first, then of each layer."""
        floor = np.full(len(running.mean), self._floor(float(np.abs(running.mean[1:]).sum())))
        floor[0] = self.atol or 0
        return np.maximum(self.rtol * np.abs(running.mean), floor)

    def _floor(self, sum_of_layers: float) -> float:
        return 0.1 * self.rtol * sum_of_layers if self.atol is None else self.atol

    def _estimate(self, running: _Running, *, sequential: bool = True) -> TraceEstimate:
        if running.count < 2:
            raise ConfigError(TOO_SMALL)
        met = self._met(running) & (running.count >= self.min_probes)
        cost = (self.meter.products, self.meter.seconds)
        rows = zip(running.mean, running.stderr, met, strict=True)
        found = [Measurement(float(mean), float(error), *cost, bool(ok)) for mean, error, ok in rows]
        names = self.operator.names if isinstance(self.operator, CurvatureOperator) else ()
        late = sequential and bool(met.all()) and running.count > self.max_probes / 2
        return TraceEstimate(found[0], dict(zip(names, found[1:], strict=bool(names))), running.count, late)


class _Running:
    """Mean and spread of the probes so far, of the sum over layers first and then of each layer, by Welford's recursion."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = np.zeros(1)

    def add(self, row: NDArray[np.float64]) -> None:
        """Take the values of a probe for all layers."""
        values = np.concatenate([[row.sum()], row])
        self.count += 1
        before = values - self.mean
        self.mean = self.mean + before / self.count
        self._squares = self._squares + before * (values - self.mean)

    @property
    def stderr(self) -> NDArray[np.float64]:
        """Standard error of the mean."""
        return np.asarray(np.sqrt(self._squares / (self.count * (self.count - 1))), np.float64)


def _half_width(stderr: NDArray[np.float64] | float, count: int) -> NDArray[np.float64]:
    return np.asarray(student.ppf((1 + CONFIDENCE) / 2, max(count - 1, 1)) * stderr)
