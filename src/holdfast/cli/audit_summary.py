"""What ``holdfast audit`` ends with: the findings in sentences that need no theory."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text

from holdfast.auditing.result import Audit
from holdfast.cli.help import two_columns
from holdfast.cli.terminal import out, page_width
from holdfast.wording import decimal, duration, percent

__all__ = ["print_audit"]

SHOWN = 3
"""Layers that are named."""


def print_audit(audit: Audit, report: Path | None) -> None:
    """Print an audit for people.

    Args:
        audit: What was found.
        report: The page that was written, if one was.
    """
    record = audit.record
    rows = [(Text(title, "bold"), Text(text)) for title, text in _rows(record)]
    out.print()
    out.print(Padding(two_columns(rows, max(left.cell_len for left, _ in rows)), (0, 0, 0, 0)), width=page_width(out))
    for note in record["notes"]:
        out.print(Text(f"Note: {note}"), soft_wrap=True)
    cost = record["cost"]
    out.print(Text(f"Cost: {duration(cost['seconds'])} and {cost['products']} products with the Hessian."), soft_wrap=True)
    out.print(Text(_where(audit, report)), soft_wrap=True)


def _where(audit: Audit, report: Path | None) -> str:
    if audit.path is None:
        return "Nothing was written; add --out DIR to keep audit.json."
    page = f"; open {shlex.quote(str(report))} in a browser for plots" if report is not None else ""
    return f"Written: {shlex.quote(str(audit.path))}{page}."


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for title, text in (
        ("Fit", _fit(record["gap"])),
        ("Distance", _distance(record)),
        ("Sharpness", _sharpness(record)),
        ("Noise", _noise(record["noise_stability"])),
        ("Bound", _bound(record["bound"], record["gap"])),
        ("Features", _features(record["features"])),
        ("Confidence", _confidence(record["calibration"])),
    ):
        if text:
            yield title, text


def _fit(gap: Mapping[str, Any]) -> str:
    parts = []
    for split, name in (("train", "training"), ("test", gap["split"] or "test")):
        if gap[f"{split}_loss"] is not None:
            right = f", {percent(gap[f'{split}_accuracy'])} right{_interval(gap[f'{split}_accuracy_ci95'])}"
            accuracy = right if gap[f"{split}_accuracy"] is not None else ""
            parts.append(f"loss {decimal(gap[f'{split}_loss'])} on {gap[f'n_{split}']} {name} examples{accuracy}")
    text = "; ".join(parts)
    return f"{text}. The gap of the losses is {decimal(gap['gap'])}." if gap["gap"] is not None else f"{text}." if text else ""


def _interval(ci95: list[float] | None) -> str:
    return f" ({100 * ci95[0]:.1f} to {100 * ci95[1]:.1f})" if ci95 else ""


def _distance(record: Mapping[str, Any]) -> str:
    layers = [layer for layer in record["layers"] if layer["frob"] is not None]
    if not layers:
        return ""
    pretrained = [layer for layer in layers if layer["norm_frob"]]
    size = math.hypot(*(layer["norm_frob"] for layer in pretrained))
    share = f", {percent(record['totals']['l2'] / size)} of their size at the start" if size else ""
    relative = sorted(pretrained, key=lambda layer: -layer["frob"] / layer["norm_frob"])
    most = ", ".join(f"{layer['name']} ({percent(layer['frob'] / layer['norm_frob'])})" for layer in relative[:SHOWN])
    return f"the {len(layers)} layers together moved by {_number(record['totals']['l2'])}{share}. Furthest for their size: {most}."


def _sharpness(record: Mapping[str, Any]) -> str:
    totals, parts = record["totals"], []
    along = totals["hessian_distance_psd"] or totals["hessian_distance"]
    if along is not None:
        key = "hessian_distance_psd" if totals["hessian_distance_psd"] else "hessian_distance"
        layers = sorted(record["layers"], key=lambda layer: -layer[key]["value"])
        most = f", {percent(layers[0][key]['value'] / along['value'])} of it in {layers[0]['name']}" if along["value"] > 0 else ""
        parts.append(f"along the move the loss curves by {_estimate(along)} (sum of v'Hv over layers){most}")
    if totals["trace"] is not None:
        parts.append(f"over all directions by {_estimate(totals['trace'])} (trace)")
    if totals["lambda_max"] is not None:
        parts.append(f"in the sharpest one by {_estimate(totals['lambda_max'])} (largest eigenvalue)")
    return f"{'; '.join(parts)}." if parts else ""


def _noise(entries: list[Mapping[str, Any]]) -> str:
    known = [entry for entry in entries if entry["mean"] is not None]
    if not known:
        return ""
    entry = known[len(known) // 2]
    text = f"noise of {entry['sigma']:g} on every weight raises the loss by {_number(entry['mean'])} ± {_number(entry['stderr'])}"
    if entry["ratio"] is None:
        return f"{text}."
    agree = 0.5 <= entry["ratio"] <= 2
    return (
        f"{text}; second derivatives predict {_number(entry['second_order'])}"
        f"{', which agrees in scale' if agree else ', which is far off: read the numbers from second derivatives with care'}."
    )


def _bound(bound: Mapping[str, Any] | None, gap: Mapping[str, Any]) -> str:
    if bound is None:
        return ""
    seen = " seen" if bound["C_from"] == "max_observed" else ""
    largest = f"the largest loss{seen}, {_number(bound['C'])}"
    if bound["vacuous"]:
        return (
            f"vacuous: {_number(bound['bound'])} is not below {largest}. It says nothing about this network, neither good nor bad; "
            "only beside other runs on the same data may the number mean something."
        )
    text = f"new examples should cost at most {_number(bound['bound'])} on average, of {largest}, if its assumptions hold (see audit.json)"
    if gap["test_loss"] is None:
        return f"{text}."
    seen_there = f"on {gap['split']} they cost {_number(gap['test_loss'])}"
    if gap["test_loss"] > bound["bound"]:
        return (
            f"{text}; but {seen_there}, which is more, so they do not hold here: compare runs by it, and rely on the {gap['split']} loss."
        )
    return f"{text}; {seen_there}."


def _features(features: Mapping[str, Any] | None) -> str:
    if features is None or features["mutual_information"]["reference"] is None:
        return ""
    before, now = (features["mutual_information"][side] for side in ("reference", "model"))
    if now is None:
        return ""
    grew = "tell" if now >= before else "now tell less of"
    norms = features["norm"]
    return (
        f"they {grew} {'more of ' if now >= before else ''}the classes than at the start: {_number(before)} nats then, {_number(now)} now; "
        f"their mean length went from {_number(norms['reference'])} to {_number(norms['model'])}."
    )


def _confidence(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return ""
    total = sum(entry["n"] for entry in calibration["bins"])
    confidence, accuracy = (
        sum(entry["n"] * (entry[key] or 0.0) for entry in calibration["bins"]) / total for key in ("confidence", "accuracy")
    )
    verdict = "too sure of itself" if confidence > accuracy else "too modest"
    if abs(confidence - accuracy) < calibration_noise(total):
        verdict = "as sure as it should be, on average"
    return (
        f"on {calibration['split']} the network claims {percent(confidence)} and is right in {percent(accuracy)}: it is {verdict}. "
        f"Confidence and accuracy differ by {percent(calibration['ece'])} in the mean over bins (ECE)."
    )


def calibration_noise(examples: int) -> float:
    """Two standard errors of an accuracy at its worst: a smaller difference is chance."""
    return 1 / math.sqrt(max(examples, 1))


def _estimate(entry: Mapping[str, Any]) -> str:
    error = f" ± {_number(entry['stderr'])}" if entry["stderr"] and entry["stderr"] > 1e-3 * abs(entry["value"]) else ""
    return f"{_number(entry['value'])}{error}{'' if entry['met'] else ' (not yet certain)'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
