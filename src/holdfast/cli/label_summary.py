"""What the end of ``holdfast fit`` says of wrong labels: what was decided by ``--labels robust``, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.run import Run

__all__ = ["label_lines"]

_NAMES = {"clean": "Labels of val are clean: val-accuracy is an accuracy on true labels.", "noisy": "Labels of val are noisy."}


def label_lines(run: Run) -> Iterator[str]:
    """Sentences for people, none for a run that has nothing to do with wrong labels."""
    result = run.result
    if run.config.get("labels") == "robust":
        yield _decided(run)
        yield from _by_selection(result, str(run.splits.get("val_labels") if run.has("splits.json") else ""))
    if noise := result.get("noise"):
        yield from _learned(noise)


def _decided(run: Run) -> str:
    names = [str(entry["name"]) for entry in run.config.get("method") or ()]
    return f"Labels robust: {_estimated(run)}; trained with {'+'.join(names)}{_revised(run)}."


def _estimated(run: Run) -> str:
    file = run.path / "estimate" / "transition.json"
    if not file.is_file():
        given = run.config.get("transition")
        return "labels were revised before" if given is None else f"how labels go wrong was given, {given}"
    record = json.loads(file.read_text(encoding="utf-8"))
    matrix = record["transition"]
    right = sum(row[label] for label, row in enumerate(matrix)) / len(matrix)
    refused = "" if run.config.get("transition") else ", too much to correct with"
    rho = "without limit" if record["rho"] is None else f"{record['rho']:.3g}"
    return f"{record['estimator']} says that a label is right in {percent(right)} of cases (rho {rho}{refused})"


def _revised(run: Run) -> str:
    """What training saw in the place of the labels."""
    labels, estimate = run.config.get("train_labels"), run.path / "estimate" / "transition.json"
    if labels is None:
        return ""
    record = json.loads(estimate.read_text(encoding="utf-8")) if estimate.is_file() else {}
    if "revised" not in record:
        return f" on the labels of {labels}"
    changed = percent(record["revised"]["changed"])
    return f" on labels of which {changed} were revised with the help of {record['known']} clean ones of val ({labels})"


def _by_selection(result: Mapping[str, Any], val_labels: str) -> Iterator[str]:
    """Test accuracy by what chose the epoch, of the weights that were kept: only one of these choices was made."""
    chosen = result["selections"][0]
    found = [entry for entry in result["selections"] if entry["weights"] == chosen["weights"] and entry["test"] is not None]
    if found:
        parts = [f"{entry['by']} {percent(entry['test']['accuracy'])} (epoch {entry['epoch']})" for entry in found]
        note = " True labels of val chose clean-val, for comparison." if any(entry["by"] == "clean-val" for entry in found) else ""
        yield f"Test accuracy by selection: {', '.join(parts)}. {_NAMES.get(val_labels, 'Labels of val count as noisy.')}{note}"


def _learned(noise: Mapping[str, Any]) -> Iterator[str]:
    yield f"Of {noise['n']} training labels whose truth is known {percent(noise['noise_rate'])} are wrong" + (
        "."
        if noise["memorised"] is None
        else f"; of these {percent(noise['memorised'])} were memorised, {percent(noise['corrected'])} corrected, and "
        f"{percent(noise['other'])} taken for another class."
    )
