"""Trace of the Hessian, and how sharp the loss is along the move of each layer."""

from __future__ import annotations

from holdfast.auditing.batches import recut
from holdfast.auditing.bench import Bench
from holdfast.measures.hessian_distance import HessianDistance, hessian_distance
from holdfast.measures.measurement import Budget
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.trace import TraceEstimate, hutchinson_trace

__all__ = ["measure_along_move", "measure_trace"]

BLOCK_COST = 0.5
"""What a product with one layer's block takes on average, in products with the whole matrix: deep layers are near the loss."""

BATCH = 4
"""Examples of a batch where the largest value over batches is wanted, as in the release of Ju et al."""


def measure_trace(bench: Bench, budget: Budget) -> TraceEstimate | None:
    """Trace of the mean loss's Hessian, whole and by layer; None where the budget allows too little.

    A quick audit stops as soon as it knows enough. A full one fixes the number of probes beforehand, so that the interval covers the
    truth as often as it says.
    """
    options = bench.options
    if not bench.affords(budget, 3, "trace"):
        return None
    found = hutchinson_trace(
        bench.operator,
        rtol=options.rtol,
        probes="auto" if options.full else "joint",
        stages=2 if options.full else 1,
        seed=options.seed,
        budget=budget,
    )
    late = [name for name, layer in found.layers.items() if not layer.met]
    if not found.total.met or late:
        what = f"the trace of {len(late)} of {len(found.layers)} layers" if found.total.met else "the trace"
        bench.notes.append(
            f"After {found.probes} random vectors {what} is not yet known to the relative accuracy of {options.rtol:g} that was asked for; "
            f"{'type --full, or raise --budget' if bench.purse.limited else 'raise --rtol'}."
        )
    if found.late:
        bench.notes.append("The trace met its accuracy late: among such runs the error is underestimated more often than it should be.")
    return found


def measure_along_move(bench: Bench, budget: Budget) -> HessianDistance | None:
    """Vᵀ H v of each layer and its form without negative curvature; None where the start is not known or the budget allows too little."""
    options = bench.options
    if bench.moves is None:
        return None
    psd = options.mode == "block"
    if not bench.affords(budget, len(bench.moves) if psd else 1, "Hessian distance", each=BLOCK_COST if psd else 1.0):
        return None
    found = hessian_distance(_operator(bench), bench.moves, over=options.over, mode=options.mode, psd=psd, budget=budget)
    unmet = [layer.name for layer in found.layers if not layer.met]
    if unmet:
        bench.notes.append(
            f"The Hessian distance of {len(unmet)} of {len(found.layers)} layers has not settled within the budget; "
            f"{'type --full, or raise --budget' if bench.purse.limited else 'it changes by more than 2 % from step to step after 30'}."
        )
    if not found.complete:
        bench.notes.append(
            f"The largest Hessian distance was sought over {len(found.values)} of the {options.samples} training examples drawn; "
            "raise --budget."
            if options.over == "sample"
            else f"The largest Hessian distance was sought over {len(found.values)} batches, fewer than were drawn; raise --budget."
        )
    return found


def _operator(bench: Bench) -> CurvatureOperator:
    """The Hessian on the batches that the maximum goes over."""
    if bench.options.over != "batch":
        return bench.operator
    whole = bench.operator
    return CurvatureOperator(
        whole.net,
        whole.loss,
        recut(bench.batches, BATCH),
        layers=whole.names,
        comm=whole.comm,
        differences=whole.differences,
        check=False,
    )
