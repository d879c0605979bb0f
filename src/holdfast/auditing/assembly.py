"""From what was measured to the content of ``audit.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import torch

from holdfast.auditing.bound import bound_of, bound_section, bound_setting, distance_form
from holdfast.auditing.distances import layer_rows, move_of_all_weights, spectral_product
from holdfast.auditing.gap import Fit, calibration_section, gap_section
from holdfast.auditing.options import AuditOptions
from holdfast.auditing.record import SCHEMA, estimate
from holdfast.auditing.spectrum import positive_trace, spectrum_section
from holdfast.auditing.stability import stability_section
from holdfast.auditing.subject import Subject
from holdfast.measures.bounds import Bound
from holdfast.measures.distance import Distances
from holdfast.measures.hessian_distance import HessianDistance
from holdfast.measures.noise_stability import NoiseStability
from holdfast.measures.spectrum import SpectralDensity
from holdfast.measures.trace import TraceEstimate
from holdfast.training.result import peak_memory_mib

__all__ = ["Findings", "assemble", "cost_section", "opening", "settings_section"]


@dataclass
class Findings:
    """Everything that was measured; None where it was not."""

    layers: tuple[str, ...]
    head: Literal["source", "zero"]
    notes: list[str] = field(default_factory=list)
    batch_size: int | None = None
    samples: int | None = None
    distances: Distances | None = None
    fit: Fit | None = None
    features: dict[str, Any] | None = None
    trace: TraceEstimate | None = None
    along: HessianDistance | None = None
    density: SpectralDensity | None = None
    stability: list[NoiseStability] = field(default_factory=list)
    positive_traces: dict[str, float] | None = None


def assemble(subject: Subject, options: AuditOptions, found: Findings, costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of ``audit.json``.

    Args:
        subject: What was audited.
        options: How.
        found: What was found.
        costs: Seconds and products of each part.
    """
    assert found.fit is not None
    bound, other, notes = _bounds(subject, options, found)
    spectrum = spectrum_section(found.density, full=options.full)
    return {
        **opening(),
        "subject": subject.record(),
        "settings": settings_section(
            dataclasses.replace(options, samples=found.samples or options.samples),
            head=found.head,
            loss=subject.loss_name,
            device=str(subject.device),
            batch_size=found.batch_size,
        ),
        "layers": _layers(subject, found, bound),
        "totals": _totals(subject, options, found, spectrum),
        "batchnorm": [{"name": layer.name, "max_abs": layer.spectral} for layer in (found.distances.batchnorm if found.distances else ())],
        "spectrum": spectrum,
        "noise_stability": stability_section(found.stability),
        "bound": None if bound is None else bound_section(bound, other, options),
        "gap": gap_section(found.fit),
        "features": found.features,
        "calibration": calibration_section(found.fit.held_out, found.fit.split),
        "notes": [*found.notes, *notes, *_evaluated(subject, found.fit)],
        "cost": cost_section(costs, subject.device),
    }


def opening() -> dict[str, Any]:
    """What every record begins with."""
    return {"schema": SCHEMA, "holdfast": version("holdfast"), "finished": datetime.now(UTC).isoformat(timespec="seconds")}


def settings_section(options: AuditOptions, *, head: str | None, loss: str, device: str, batch_size: int | None) -> dict[str, Any]:
    """The section ``settings``."""
    return {
        **options.settings(),
        "head": head,
        "labels": "as given",
        "loss": loss,
        "device": device,
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
    }


def cost_section(costs: Mapping[str, Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    """The section ``cost``."""
    return {
        "products": sum(part["products"] for part in costs.values()),
        "seconds": sum(part["seconds"] for part in costs.values()),
        "peak_memory_mib": peak_memory_mib(device),
        "parts": dict(costs),
    }


def _bounds(subject: Subject, options: AuditOptions, found: Findings) -> tuple[Bound | None, Bound | None, list[str]]:
    """The bound and its distance form."""
    if found.along is None or found.fit is None or found.distances is None:
        return None, None, []
    setting = bound_setting(found.fit, options, subject.data.size("train"))
    moved = {layer.name: layer.frob for layer in found.distances.layers}
    if found.head == "zero" and subject.head_name is not None:
        notes = ["The head is measured from zero, so the bound counts the whole of it as a move."]
    else:
        notes = []
    return bound_of(found.along, setting), distance_form(moved, found.positive_traces, setting), notes


def _layers(subject: Subject, found: Findings, bound: Bound | None) -> list[dict[str, Any]]:
    along = {} if found.along is None else {layer.name: layer for layer in found.along.layers}
    exact = 0.0 if found.along is not None and found.along.over == "mean" else None
    rows = layer_rows(subject, found.layers, found.distances, found.head)
    for row in rows:
        name = row["name"]
        traced = None if found.trace is None else found.trace.layers[name]
        moved = along.get(name)
        row["trace"] = None if traced is None else estimate(traced.value, traced.stderr, met=traced.met)
        row["trace_stderr"] = None if row["trace"] is None else row["trace"]["stderr"]
        row["hessian_distance"] = None if moved is None else estimate(moved.plain, exact)
        with_psd = moved is not None and found.along is not None and found.along.psd
        row["hessian_distance_psd"] = estimate(moved.value, exact, met=moved.met) if with_psd and moved is not None else None
        row["bound_term"] = None if bound is None else bound.terms[name]
        row["bound_share"] = None if bound is None else bound.shares[name]
        row["clipped"] = bound is not None and name in bound.clipped
        row["negative"] = None if moved is None else moved.negative
    return rows


def _totals(subject: Subject, options: AuditOptions, found: Findings, spectrum: Mapping[str, Any] | None) -> dict[str, Any]:
    along, traced, density = found.along, found.trace, found.density
    met = along is not None and along.complete and all(layer.met for layer in along.layers)
    exact = 0.0 if along is not None and along.over == "mean" else None
    psd = along is not None and along.psd
    return {
        "l2": None if found.distances is None else found.distances.l2_total,
        "l2_total": move_of_all_weights(subject, found.head),
        "trace": None if traced is None else estimate(traced.total.value, traced.total.stderr, met=traced.total.met),
        "trace_psd": None if density is None else positive_trace(density, options.rtol),
        "lambda_max": None if spectrum is None else spectrum["top"][0],
        "lambda_min": None if spectrum is None else spectrum["bottom"][0],
        "hessian_distance": None if along is None else estimate(sum(layer.plain for layer in along.layers), exact),
        "hessian_distance_psd": estimate(sum(layer.value for layer in along.layers), exact, met=met) if psd and along is not None else None,
        "spectral_product": spectral_product(subject.net, found.layers),
    }


def _evaluated(subject: Subject, fit: Fit) -> list[str]:
    notes = []
    if len(fit.train.labels) < subject.data.size("train"):
        notes.append(f"The training loss is that of {len(fit.train.labels)} of the {subject.data.size('train')} training examples.")
    if fit.held_out is None:
        notes.append("There is no test or validation split, so there is no gap and no calibration.")
    return notes
