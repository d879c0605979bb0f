"""Growth of the loss under noise on the weights, beside what second derivatives predict."""

from __future__ import annotations

import time
from typing import Any

from holdfast.auditing.bench import Bench
from holdfast.auditing.forward import pass_over
from holdfast.measures.measurement import Budget
from holdfast.measures.noise_stability import NoiseStability, noise_stability
from holdfast.run.files import plain

__all__ = ["measure_stability", "stability_section"]

SIGMAS = (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
MOST = {True: 50, False: 20}
"""Pairs of draws of a full and of a quick audit."""

FEWEST = 3


def measure_stability(bench: Bench, budget: Budget, trace: float | None) -> list[NoiseStability]:
    """The sweep over scales, with as many pairs of draws as the budget has seconds for; empty where these are too few."""
    draws = MOST[bench.options.full]
    if budget.seconds is not None:
        start = time.perf_counter()
        pass_over(bench.subject, bench.batches)
        each = bench.agree(time.perf_counter() - start)
        draws = min(draws, int(budget.seconds / (2 * len(SIGMAS) * each)))
    if draws < FEWEST:
        bench.notes.append("Noise stability was left out: its share of the budget is too small; raise --budget, or type --full.")
        return []
    operator = bench.operator
    return noise_stability(
        operator.net,
        operator.loss,
        bench.batches,
        SIGMAS,
        layers=operator.names,
        draws=draws,
        trace=trace,
        seed=bench.options.seed,
        comm=bench.subject.comm,
    )


def stability_section(found: list[NoiseStability]) -> list[dict[str, Any]]:
    """The section ``noise_stability``."""
    return [
        plain(
            {
                "sigma": one.sigma,
                "mean": one.mean,
                "stderr": one.stderr,
                "second_order": one.second_order,
                "ratio": one.ratio,
                "draws": len(one.plus),
            }
        )
        for one in found
    ]
