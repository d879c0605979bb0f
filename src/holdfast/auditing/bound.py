"""The generalization bound from what was measured, and the form of it that takes distances and traces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

from holdfast.auditing.bench import Bench
from holdfast.auditing.gap import Fit
from holdfast.auditing.options import AuditOptions
from holdfast.auditing.spectrum import positive_trace
from holdfast.errors import ConfigError
from holdfast.measures.bounds import Bound, BoundSetting, cross_entropy_ceiling, distance_bound, hessian_bound
from holdfast.measures.hessian_distance import HessianDistance
from holdfast.measures.measurement import Budget
from holdfast.measures.spectrum import spectral_density

__all__ = ["bound_of", "bound_section", "bound_setting", "distance_form", "measure_positive_traces"]

STEPS, PROBES = 8, 4
"""Of the recursions for a layer's trace of the positive part; a full audit takes more of both."""


def bound_setting(fit: Fit, options: AuditOptions, n: int) -> BoundSetting:
    """The numbers beside the layers: n, the largest loss C, and the empirical loss under it.

    Raises:
        ConfigError: An example has a larger loss than ``--loss-bound`` says there is.
    """
    losses = fit.train.losses.double()
    if options.p_min is not None:
        ceiling = cross_entropy_ceiling(options.p_min)
        return BoundSetting(n, ceiling, float(losses.clamp_max(ceiling).mean()), options.eps)
    if options.loss_bound is not None:
        if fit.largest_loss > options.loss_bound:
            raise ConfigError(
                f"--loss-bound {options.loss_bound:g}: an example has a loss of {fit.largest_loss:.4g}; "
                "give a bound that holds, or clip probabilities with --p-min."
            )
        return BoundSetting(n, options.loss_bound, float(losses.mean()), options.eps)
    ceiling = max(fit.largest_loss, sys.float_info.min)
    return BoundSetting(n, ceiling, float(losses.mean()), options.eps, ceiling_observed=True)


def bound_of(found: HessianDistance, setting: BoundSetting) -> Bound:
    """The bound from the Hessian distances."""
    # Without the positive part a negative value counts as 0, and its layer is named.
    values = {layer.name: layer.value if found.psd else layer.plain for layer in found.layers}
    return hessian_bound(values, setting, psd=found.psd, over=found.over)


def measure_positive_traces(bench: Bench, budget: Budget) -> dict[str, float] | None:
    """Trace of the positive part of each layer's block, for the distance form; None where the budget is too small for all of them."""
    blocks = [bench.operator.block(name) for name in bench.operator.names]
    steps, probes = (20, 5) if bench.options.full else (STEPS, PROBES)
    needed = sum(probes * min(steps, block.shape[0]) for block in blocks)
    within = bench.products_within(budget)
    if within is not None and needed > within:
        bench.notes.append("The distance form of the bound was left out: it takes the trace of each layer by itself; type --full.")
        return None
    densities = (spectral_density(block, steps=steps, probes=probes, seed=bench.options.seed) for block in blocks)
    found = {block.name: positive_trace(density, bench.options.rtol) for block, density in zip(blocks, densities, strict=True)}
    unsettled = sum(not trace["met"] for trace in found.values() if trace is not None)
    if unsettled:
        bench.notes.append(
            f"The distance form of the bound is rough: the positive part of the trace of {unsettled} of {len(found)} layers is not known "
            f"to the relative accuracy of {bench.options.rtol:g}{'' if bench.options.full else '; type --full'}."
        )
    return {name: 0.0 if trace is None else max(trace["value"], 0.0) for name, trace in found.items()}


def distance_form(moved: Mapping[str, float], traces: Mapping[str, float] | None, setting: BoundSetting) -> Bound | None:
    """The bound from distances and traces of the mean loss's Hessian."""
    return None if traces is None else distance_bound(moved, traces, setting, over="mean")


def bound_section(bound: Bound, other: Bound | None, options: AuditOptions) -> dict[str, Any]:
    """The section ``bound``."""
    setting = bound.setting
    source: Literal["clipped", "given", "max_observed"] = (
        "clipped" if options.p_min is not None else "given" if options.loss_bound is not None else "max_observed"
    )
    return {
        "n": setting.n,
        "C": setting.ceiling,
        "C_from": source,
        "eps": setting.eps,
        "empirical_loss": setting.empirical_loss,
        "rho": None,
        "measure": bound.measure,
        "bound": bound.value,
        "gap_vacuous": bound.gap_vacuous,
        "vacuous": bound.vacuous,
        "distance_measure": None if other is None else other.measure,
        "distance_bound": None if other is None else other.value,
        "tight": bound.tight,
        "assumptions": list(bound.assumptions),
    }
