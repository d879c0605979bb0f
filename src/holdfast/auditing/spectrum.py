"""Both ends of the Hessian's spectrum, and its density, from the same recursions."""

from __future__ import annotations

from typing import Any

from holdfast.auditing.bench import Bench
from holdfast.auditing.memory import available_bytes
from holdfast.auditing.record import estimate
from holdfast.measures.measurement import Budget
from holdfast.measures.spectrum import SpectralDensity, spectral_density

__all__ = ["measure_spectrum", "positive_trace", "spectrum_section"]

TOP = 5
LEAST = 10
"""Fewest steps of a recursion that say anything of a spectrum."""

ENOUGH = {True: 1e-3, False: 1e-2}
"""Residual of an eigenvalue, relative to the largest magnitude, that a full and a quick audit call met."""

MEMORY_SHARE = 0.3
"""Part of the free memory that the vectors of a recursion may fill."""


def measure_spectrum(bench: Bench, budget: Budget) -> SpectralDensity | None:
    """Recursions from random vectors, as many and as long as the budget allows, at most 5 of 80 steps; None where it allows too little."""
    size = bench.operator.shape[0]
    usual = min(size, 80 if size >= 100_000 else 50)
    if not bench.affords(budget, min(LEAST, usual), "spectrum"):
        return None
    within = bench.products_within(budget)
    held = int(bench.agree(MEMORY_SHARE * available_bytes(bench.operator.device) / (size * 4)))
    if held < min(LEAST, usual):
        bench.notes.append("The spectrum was left out: ten vectors as long as the weights do not fit into memory; choose fewer --layers.")
        return None
    steps = min(usual, held, within if within is not None else usual)
    probes = 5 if within is None else max(1, min(5, within // steps))
    found = spectral_density(bench.operator, steps=steps, probes=probes, seed=bench.options.seed, budget=budget)
    if len(found.nodes) < 5 or steps < usual:
        bench.notes.append(
            f"The spectrum is a sketch from {len(found.nodes)} random vector{'s' * (len(found.nodes) > 1)} and {steps} products each, "
            f"of 5 and {usual} that a full one takes; type --full, or raise --budget."
        )
    return found


def positive_trace(found: SpectralDensity, rtol: float) -> dict[str, Any] | None:
    """Trace of the positive part, met where neither the random vectors nor the length of the recursions leave more than ``rtol`` of it."""
    value, stderr = found.positive_trace.value, found.positive_trace.stderr
    change = found.change_of(lambda values: values.clip(min=0))
    return estimate(value, stderr, met=found.met and max(stderr, change) <= rtol * abs(value))


def spectrum_section(found: SpectralDensity | None, *, full: bool) -> dict[str, Any] | None:
    """The section ``spectrum``; the error of an eigenvalue is its residual, within which one lies."""
    if found is None:
        return None
    tolerance = ENOUGH[full] * max(abs(float(node)) for nodes in found.nodes for node in (nodes[0], nodes[-1]))
    ends = {
        name: [estimate(value, residual, met=residual <= tolerance) for value, residual in found.extreme(TOP, largest=largest)]
        for name, largest in (("top", True), ("bottom", False))
    }
    return {
        **ends,
        "density": {"grid": found.grid.tolist(), "values": found.density.tolist()},
        "sigma": float(found.sigma),
        "effective_rank": float(found.effective_rank),
        "negative_mass": float(found.negative_mass),
    }
