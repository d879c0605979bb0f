"""What a run tells that kept its predictions, but not what its network was made of."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from holdfast.auditing.assembly import cost_section, opening, settings_section
from holdfast.auditing.forward import Columns
from holdfast.auditing.gap import Fit, calibration_section, gap_section
from holdfast.auditing.of_run import describe_run
from holdfast.auditing.options import AuditOptions
from holdfast.run import Predictions, Run

__all__ = ["audit_predictions"]

NOTE = (
    "This run does not record what its network and its start were made of (it was written by a training loop of your own), so only what "
    "its predictions tell is here; for the rest call holdfast.audit(net, start=..., train=...) in Python."
)


def audit_predictions(run: Run, options: AuditOptions) -> dict[str, Any]:
    """A record with gap and calibration from ``predictions.npz``, and None for everything else."""
    start = time.perf_counter()
    stored = run.load_predictions() if run.has("predictions.npz") else {}
    split = next((name for name in ("test", "val") if name in stored), None)
    held_out = None if split is None else _columns(stored[split])
    fit = Fit(_columns(stored["train"]), held_out, split) if "train" in stored else None
    gap = _gap_without_train(held_out, split) if fit is None else gap_section(fit)
    totals = (
        *("l2", "l2_total", "trace", "trace_psd", "lambda_max", "lambda_min"),
        *("hessian_distance", "hessian_distance_psd", "spectral_product"),
    )
    calibration = calibration_section(held_out, split)
    return {
        **opening(),
        "subject": {"source": None, "split": "train", **describe_run(run)},
        "settings": settings_section(options, head=None, loss="cross-entropy", device="cpu", batch_size=None),
        "layers": [],
        "totals": dict.fromkeys(totals),
        "batchnorm": [],
        "spectrum": None,
        "noise_stability": [],
        "bound": None,
        "gap": gap,
        "features": None,
        "calibration": calibration,
        "notes": [NOTE],
        "cost": cost_section({"losses": {"seconds": time.perf_counter() - start, "products": 0}}, torch.device("cpu")),
    }


def _columns(stored: Predictions) -> Columns:
    logits, labels = torch.from_numpy(stored.logits).float(), torch.from_numpy(stored.labels)
    return Columns(logits, labels, cross_entropy(logits, labels, reduction="none"), None)


def _gap_without_train(held_out: Columns | None, split: str | None) -> dict[str, Any]:
    """The section ``gap`` where nothing is known of the training examples."""
    known = dict.fromkeys(
        ("train_loss", "test_loss", "gap", "train_accuracy", "train_accuracy_ci95", "test_accuracy", "test_accuracy_ci95")
    )
    known |= {"n_train": 0, "n_test": 0, "split": split}
    if held_out is None:
        return known
    whole = gap_section(Fit(held_out, held_out, split))
    return known | {key: whole[key] for key in ("test_loss", "test_accuracy", "test_accuracy_ci95", "n_test", "largest_loss")}
