"""What one directory holds: a finished run, an audit, or both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.auditing.record import FILE as AUDIT
from holdfast.auditing.record import validate_audit
from holdfast.errors import RunError
from holdfast.report.reading import at, entries, number, plain_text
from holdfast.report.scores import Scores
from holdfast.run import Run, validate_result
from holdfast.wording import significant

__all__ = ["SPLITS", "Subject", "open_subject"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Subject:
    """A directory, read.

    Args:
        path: As it was given.
        run: The run, or None where there is only an audit.
        result: Its ``result.json``; empty without a run.
        audit: ``audit.json``, or None.
        scores: What its predictions say of the test split, or of validation where there is no test; None without predictions.
    """

    path: Path
    run: Run | None
    result: Mapping[str, Any]
    audit: Mapping[str, Any] | None
    scores: Scores | None

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name or str(self.path)

    @property
    def config(self) -> Mapping[str, Any]:
        """Options of the run."""
        return self.run.config if self.run else {}

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        found = at(self.result, "data", "classes") or at(self.audit, "subject", "classes")
        return [str(name) for name in found] if isinstance(found, list) else []

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each split that was measured, by its name: of the run, or of the audit where there is none."""
        if self.run is not None:
            return {split: self.result[split] for split in SPLITS if self.result[split] is not None}
        held_out = plain_text(at(self.audit, "gap", "split")) or "test"
        found = {"train": _metrics(self.audit, "train", {}), held_out: _metrics(self.audit, "test", at(self.audit, "calibration") or {})}
        return {split: values for split, values in found.items() if values["accuracy"] is not None}

    @property
    def judged(self) -> str | None:
        """The split whose accuracy comes first: test, else validation, else training."""
        return next((split for split in reversed(SPLITS) if at(self.metrics, split, "accuracy") is not None), None)

    @property
    def data(self) -> str:
        """The data in words."""
        return plain_text(self.config.get("data") or at(self.audit, "subject", "data")) or "data not recorded"

    @property
    def network(self) -> str:
        """The network in words."""
        return plain_text(at(self.result, "model", "spec") or at(self.audit, "subject", "model")) or "network not recorded"

    @property
    def method(self) -> str:
        """The method with its weight, in words; ``plain`` is not named beside others."""
        chosen = self.config.get("method")
        named = [entry for entry in entries(chosen) if entry.get("name") != "plain"]
        if named:
            return " + ".join(map(_method, named))
        if entries(chosen):
            return "plain"
        return plain_text(chosen or at(self.audit, "subject", "method")) or "method not recorded"


def open_subject(path: Path) -> Subject:
    """Read a directory.

    Raises:
        RunError: It holds no finished run and no audit, or a file of it is damaged.
        CheckpointError: The stored predictions are damaged.
    """
    if path.is_dir() and not (path / "config.yaml").is_file() and (path / AUDIT).is_file():
        return Subject(path, None, {}, _read_audit(path / AUDIT), None)
    run = Run.open(path)
    result = run.result
    try:
        validate_result(result)
    except RunError as error:
        raise RunError(f"{str(path)!r}: {error}") from error
    audit = _read_audit(path / AUDIT) if run.has(AUDIT) else None
    return Subject(path, run, result, audit, _scores(run, len(result["data"]["classes"] or ())))


def _scores(run: Run, classes: int) -> Scores | None:
    predictions = run.load_predictions() if run.has("predictions.npz") else {}
    for split in ("test", "val"):
        if split in predictions:
            return Scores.of(split, predictions[split], classes)
    return None


def _metrics(audit: Any, split: str, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What an audit says of a split, under the names that ``result.json`` has."""
    gap = at(audit, "gap") or {}
    known = {"n": gap.get(f"n_{split}"), **{key: gap.get(f"{split}_{key}") for key in ("loss", "accuracy", "accuracy_ci95")}}
    return {**known, "macro_f1": None, "nll": calibration.get("nll", known["loss"]), "ece": calibration.get("ece")}


def _method(entry: Mapping[str, Any]) -> str:
    weight = number(entry.get("weight"))
    return plain_text(entry.get("name")) + (f" (weight {significant(weight)})" if weight is not None else "")


def _read_audit(file: Path) -> Mapping[str, Any]:
    try:
        audit: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {str(file)!r}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{str(file)!r} is damaged: {error}; make it again with `holdfast audit`") from error
    try:
        validate_audit(audit)
    except RunError as error:
        raise RunError(f"{str(file.parent)!r}: {error}") from error
    return audit
