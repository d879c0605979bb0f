"""Schema 1 of ``audit.json``: its keys, an estimate as a value of it, and the check that all is there. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import RunError

__all__ = ["FILE", "SCHEMA", "estimate", "validate_audit"]

FILE = "audit.json"
SCHEMA = 1

_KEYS: dict[str, tuple[str, ...]] = {
    "subject": (
        *("run", "model", "source", "data", "method", "classes", "parameters"),
        *("reference_fingerprint", "data_fingerprint", "split"),
    ),
    "settings": (
        *("over", "mode", "head", "layers", "samples", "rtol", "budget", "full", "seed"),
        *("labels", "loss", "eps", "device", "threads"),
    ),
    "totals": (
        *("l2", "l2_total", "trace", "trace_psd", "lambda_max", "lambda_min"),
        *("hessian_distance", "hessian_distance_psd", "spectral_product"),
    ),
    "gap": (
        *("train_loss", "test_loss", "gap", "train_accuracy", "train_accuracy_ci95"),
        *("test_accuracy", "test_accuracy_ci95", "n_train", "n_test", "split"),
    ),
    "cost": ("products", "seconds", "peak_memory_mib", "parts"),
}
_LAYER = (
    *("name", "shape", "parameters", "frob", "infop", "spectral", "norm_frob", "trace", "trace_stderr"),
    *("hessian_distance", "hessian_distance_psd", "bound_term", "bound_share", "clipped"),
)
_STABILITY = ("sigma", "mean", "stderr", "second_order", "ratio")
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "spectrum": ("top", "bottom", "density", "sigma", "effective_rank", "negative_mass"),
    "bound": (
        *("n", "C", "C_from", "eps", "empirical_loss", "rho", "measure", "bound", "gap_vacuous", "vacuous"),
        *("distance_measure", "distance_bound", "tight", "assumptions"),
    ),
    "features": (
        *("examples", "split", "norm", "norm_of_mean", "entropy", "conditional_entropy", "mutual_information"),
        *("gradient_norm", "left_out", "pca"),
    ),
    "calibration": ("split", "n", "ece", "nll", "brier", "bins"),
}
_ESTIMATES = {
    "totals": ("trace", "trace_psd", "lambda_max", "lambda_min", "hessian_distance", "hessian_distance_psd"),
    "layers": ("trace", "hessian_distance", "hessian_distance_psd"),
}


def estimate(value: float, stderr: float | None = None, *, met: bool = True) -> dict[str, Any] | None:
    """An estimated number as ``audit.json`` has it; None where it is not finite.

    Example:
        >>> estimate(2.0, float("inf"), met=False)
        {'value': 2.0, 'stderr': None, 'met': False}
    """
    if not math.isfinite(value):
        return None
    known = stderr is not None and math.isfinite(stderr)
    return {"value": float(value), "stderr": float(stderr) if known and stderr is not None else None, "met": bool(met)}


def validate_audit(record: Mapping[str, Any]) -> None:
    """Check that a dict follows schema 1 of ``audit.json``.

    What was not measured is None, never missing; further keys are welcome.

    Raises:
        RunError: A key is missing or holds something else; the message names it.
    """
    _require(record, "", ("schema", "holdfast", "finished", "layers", "batchnorm", "noise_stability", "notes", *_KEYS, *_OPTIONAL))
    if record["schema"] != SCHEMA:
        _fail("schema", record["schema"], f"{SCHEMA}: read the audit with the holdfast that wrote it")
    for section, keys in _KEYS.items():
        _require(record[section], section, keys)
    for section, keys in _OPTIONAL.items():
        if record[section] is not None:
            _require(record[section], section, keys)
    for section, keys in (("layers", _LAYER), ("noise_stability", _STABILITY), ("batchnorm", ("name", "max_abs")), ("notes", ())):
        _check_list(record[section], section, keys)
    _check_estimates(record)
    _check_finite(record, "")


def _check_list(entries: Any, section: str, keys: Sequence[str]) -> None:
    if not isinstance(entries, list):
        _fail(section, entries, "a list")
    for position, entry in enumerate(entries):
        if keys:
            _require(entry, f"{section}[{position}]", keys)
        elif not isinstance(entry, str):
            _fail(f"{section}[{position}]", entry, "a sentence")


def _check_estimates(record: Mapping[str, Any]) -> None:
    rows = [("totals", record["totals"]), *((f"layers[{i}]", layer) for i, layer in enumerate(record["layers"]))]
    for where, row in rows:
        for key in _ESTIMATES[where.partition("[")[0]]:
            if row[key] is not None:
                _require(row[key], f"{where}.{key}", ("value", "stderr", "met"))
    for end in ("top", "bottom"):
        for position, entry in enumerate((record["spectrum"] or {}).get(end, [])):
            _require(entry, f"spectrum.{end}[{position}]", ("value", "stderr", "met"))


def _check_finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        _fail(where, value, "a finite number, or null")
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        _check_finite(entry, f"{where}.{key}" if where else str(key))


def _fail(where: str, value: Any, expected: str) -> None:
    raise RunError(f"{FILE}: {where} is {value!r}, expected {expected}")


def _require(values: Any, where: str, keys: Sequence[str]) -> None:
    if not isinstance(values, Mapping):
        _fail(where or "the whole", values, "keys with values")
    for key in keys:
        if key not in values:
            raise RunError(f"{FILE}: the key '{where}{'.' if where else ''}{key}' is missing; put null where it is not known")
