"""Runs and audits as files, made by code: small, seeded, of any number of classes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.auditing.record import validate_audit
from holdfast.report.scores import wilson
from holdfast.run import Run

LAYERS = ("conv1", "blocks.0.dw", "blocks.0.pw", "blocks.1.dw", "blocks.1.pw", "head")

COST = {
    "device": "cpu (1 threads)",
    "steps": 36,
    "seconds_total": 19.2,
    "seconds_per_step": 0.47,
    "seconds_per_epoch": 1.4,
    "images_per_second": 137.4,
    "peak_memory_mib": 1330.5,
}


def names_of(classes: int) -> list[str]:
    """``class-a`` and so on."""
    return [f"class-{number:03d}" for number in range(classes)]


def logits_of(labels: np.ndarray, classes: int, *, seed: int = 0) -> np.ndarray:
    """Logits that are right more often than not."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), classes))
    noise[np.arange(len(labels)), labels] += 2.0
    return noise.astype(np.float32)


def metrics_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The metrics of a split as ``result.json`` has them."""
    right = int((logits.argmax(axis=1) == labels).sum())
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    accuracy, nll = right / len(labels), float(losses.mean())
    interval = list(wilson(right, len(labels)) or (0.0, 1.0))
    return {"n": len(labels), "loss": nll, "accuracy": accuracy, "accuracy_ci95": interval, "macro_f1": accuracy, "nll": nll, "ece": 0.1}


def write_run(
    path: Path,
    *,
    classes: Sequence[str] = ("ants", "bees"),
    examples: int = 60,
    splits: Sequence[str] = ("val", "test"),
    epochs: int = 4,
    config: dict[str, Any] | None = None,
    seed: int = 0,
) -> Run:
    """A finished run with history and predictions.

    Args:
        path: New directory.
        classes: Names.
        examples: How many each split has.
        splits: Those with predictions.
        epochs: Rows of the history; 0 for none.
        config: Options beside a few usual ones.
        seed: Of logits.
    """
    labels = np.arange(examples) % len(classes)
    found = {split: (logits_of(labels, len(classes), seed=seed + place), labels) for place, split in enumerate(splits)}
    metrics = {split: metrics_of(*rows) for split, rows in found.items()}
    chosen = {"epoch": max(1, epochs - 1), "step": 3, "weights": "raw", "val": metrics.get("val"), "test": metrics.get("test")}
    result = {
        **metrics,
        "train": metrics_of(logits_of(labels, len(classes), seed=9), labels),
        "model": {"spec": "demo:glyphnet", "parameters": 124490, "reference_fingerprint": "ab" * 32},
        "data": {"n_train": 195, "fingerprint": "cd" * 32},
        "selections": [{"by": "val-accuracy" if "val" in metrics else "last", **chosen}, {"by": "last", **chosen, "epoch": epochs}],
        "terms": {"cross-entropy": {"weight": 1.0, "last": 0.1}, "adarand": {"weight": 0.125, "last": 3.1}},
        "cost": COST,
    }
    ids = [f"{number}.png" for number in range(examples)]
    run = Run.save(
        path,
        model_state={},
        classes=classes,
        predictions={split: (*rows, ids) for split, rows in found.items()},
        result=result,
        config={
            "data": "photos",
            "model": "demo:glyphnet",
            "epochs": epochs,
            "method": "adarand",
            "seed": seed,
            "lr": 0.01,
            **(config or {}),
        },
    )
    for epoch in range(1, epochs + 1):
        run.append_history(_epoch(epoch, with_val="val" in metrics))
    return run


def _epoch(epoch: int, *, with_val: bool) -> dict[str, float]:
    task = math.exp(-0.4 * epoch)
    row = {"epoch": epoch, "step": 3 * epoch, "lr": 0.01 / epoch, "loss": task + 0.4, "cross-entropy": task, "adarand": 3.2}
    row["train_accuracy"] = 1 - 0.5 * task
    return {**row, "val_accuracy": 0.9 - 0.4 * task, "val_loss": 0.3 + task} if with_val else row


def write_features(run: Run, epochs: int = 3) -> None:
    """Rows of ``features.csv``."""
    for epoch in range(epochs + 1):
        values = {"feature_norm": 13.0 + epoch, "norm_of_mean_feature": 10.0, "entropy": 144.0 + epoch, "conditional_entropy": 117.0}
        run.append_features(
            {"epoch": epoch, "step": 3 * epoch, "examples": 195, **values, "mutual_information": 27.0 + epoch, "gradient_norm": 1.7}
        )


def estimate(value: float, stderr: float | None = 0.0, *, met: bool = True) -> dict[str, Any]:
    """An estimated number."""
    return {"value": value, "stderr": stderr, "met": met}


def audit_of(
    *, classes: Sequence[str] = ("ants", "bees"), layers: Sequence[str] = LAYERS, points: int = 40, vacuous: bool = True
) -> dict[str, Any]:
    """A whole ``audit.json``."""
    grid = np.linspace(-5, 40, 200)
    density = np.exp(-0.5 * (grid / 0.8) ** 2) + 1e-3 * np.exp(-0.5 * ((grid - 30) / 0.8) ** 2)
    audit = {
        "schema": 1,
        "holdfast": "0.1.0",
        "finished": "2026-01-02T03:04:05+00:00",
        "subject": {
            **{"run": "first", "model": "demo:glyphnet", "source": "demo:glyphnet as it comes", "data": "photos", "method": "adarand"},
            **{"classes": list(classes), "parameters": 124490, "split": "train"},
            **{"reference_fingerprint": "ab" * 32, "data_fingerprint": "cd" * 32},
        },
        "settings": {
            **{"over": "mean", "mode": "block", "head": "source", "layers": "auto", "samples": 128, "rtol": 0.2, "budget": 120.0},
            **{"full": False, "seed": 0, "labels": "as given", "loss": "cross-entropy", "eps": 0.1, "device": "cpu", "threads": 1},
        },
        "layers": [_layer(name, place, len(layers)) for place, name in enumerate(layers)],
        "totals": {
            **{"l2": 3.21, "l2_total": 3.4, "trace": estimate(412.0, 31.0), "trace_psd": estimate(455.0, 40.0)},
            **{"lambda_max": estimate(31.4), "lambda_min": estimate(-3.2), "spectral_product": 0.0123},
            **{"hessian_distance": estimate(2.9), "hessian_distance_psd": estimate(3.6, None, met=False)},
        },
        "batchnorm": [{"name": "bn1", "max_abs": 0.31}],
        "spectrum": {
            "top": [estimate(31.4, 0.02), estimate(12.0, 0.01), estimate(7.5, 0.3, met=False)],
            "bottom": [estimate(-3.2, 0.01), estimate(-1.1, 0.02)],
            "density": {"grid": grid.tolist(), "values": density.tolist()},
            **{"sigma": 0.45, "effective_rank": 6.2, "negative_mass": 0.08},
        },
        "noise_stability": [
            {
                "sigma": sigma,
                "mean": 206 * sigma**2 * (1 + 30 * sigma),
                "stderr": 10 * sigma**2,
                "second_order": 206 * sigma**2,
                "ratio": 1 + 30 * sigma,
            }
            for sigma in (1e-3, 2e-3, 5e-3, 1e-2, 2e-2)
        ],
        "bound": {
            **{"n": 195, "C": 5.4, "C_from": "max_observed", "eps": 0.1, "empirical_loss": 0.079, "rho": None, "measure": 5.1},
            **{
                "bound": 5.69 if vacuous else 3.2,
                "gap_vacuous": False,
                "vacuous": vacuous,
                "distance_measure": 21.0,
                "distance_bound": 23.2,
            },
            **{"tight": 3.6, "assumptions": ["The examples are independent draws.", "The loss is twice differentiable; ReLU is not."]},
        },
        "gap": {
            **{"train_loss": 0.079, "test_loss": 0.523, "gap": 0.444, "train_accuracy": 0.979, "train_accuracy_ci95": [0.948, 0.992]},
            **{"test_accuracy": 0.817, "test_accuracy_ci95": [0.748, 0.870], "n_train": 195, "n_test": 153, "split": "test"},
        },
        "features": _features(len(classes), points),
        "calibration": {
            **{"split": "test", "n": 153, "ece": 0.1, "nll": 0.5, "brier": 0.3},
            "bins": [{"low": 0.5, "high": 1.0, "n": 153, "confidence": 0.9, "accuracy": 0.8}],
        },
        "notes": ["The trace of layer conv1 did not reach its accuracy; type holdfast audit RUN --full."],
        "cost": {
            **{"products": 912, "seconds": 84.2, "peak_memory_mib": 1411.0},
            "parts": {"distances": {"seconds": 0.2, "products": 0}, "hessian_distance": {"seconds": 60.0, "products": 812}},
        },
    }
    validate_audit(audit)
    return audit


def write_audit(path: Path, audit: dict[str, Any]) -> Path:
    """``audit.json`` in a directory, which is made if need be."""
    path.mkdir(exist_ok=True)
    (path / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    return path


def _layer(name: str, place: int, count: int) -> dict[str, Any]:
    size = 1.0 + place
    return {
        **{
            "name": name,
            "shape": [16, 8, 3, 3],
            "parameters": 1152,
            "frob": 0.2 * size,
            "infop": 0.9 * size,
            "spectral": 0.1 * size,
            "norm_frob": 9.0,
        },
        **{"trace": estimate(11.0 * size, 0.7 * size, met=place > 0), "trace_stderr": 0.7 * size},
        **{"hessian_distance": estimate(0.3 * size - 0.5, None), "hessian_distance_psd": estimate(0.3 * size, 0.02)},
        **{"bound_term": 0.1 * size, "bound_share": 2 * size / (count * (count + 1)), "clipped": False},
    }


def _features(classes: int, points: int) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    labels = np.arange(points) % classes
    before, after = (spread * generator.normal(size=(classes, 2)) for spread in (1.0, 6.0))
    view = lambda centres: (centres[labels] + generator.normal(size=(points, 2))).tolist()  # noqa: E731
    return {
        **{"examples": points, "split": "train", "left_out": 0, "norm": {"reference": 13.0, "model": 14.2}},
        **{"norm_of_mean": {"reference": 10.9, "model": 10.1}, "entropy": {"reference": 144.1, "model": 154.9}},
        **{"conditional_entropy": {"reference": 117.6, "model": 121.2}, "mutual_information": {"reference": 26.5, "model": 33.7}},
        "gradient_norm": {"reference": 1.7, "model": 0.46},
        "pca": {
            "split": "test",
            "labels": labels.tolist(),
            "reference": {"explained_variance_ratio": [0.31, 0.12], "points": view(before)},
            "model": {"explained_variance_ratio": [0.52, 0.2], "points": view(after)},
        },
    }
