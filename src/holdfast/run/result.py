"""Schema 1 of ``result.json``: its keys, the check that they are all there, and metrics as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from holdfast.errors import RunError

__all__ = ["SCHEMA", "SplitMetrics", "complete_result", "validate_result"]

SCHEMA = 1

_SECTIONS: dict[str, tuple[str, ...]] = {
    "data": ("n_train", "n_val", "n_test", "classes", "fingerprint"),
    "model": ("spec", "parameters", "reference_fingerprint"),
    "cost": ("device", "steps", "seconds_total", "seconds_per_step", "seconds_per_epoch", "images_per_second", "peak_memory_mib"),
}
_SPLITS = ("train", "val", "test")
_METRICS = ("n", "loss", "accuracy", "accuracy_ci95", "macro_f1", "nll", "ece")
_SELECTION = ("by", "epoch", "step", "weights", "val", "test")
_SELECTED_BY = ("val-accuracy", "val-loss", "val-corrected", "last", "clean-val", "best-by-test")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SplitMetrics:
    """What was measured on one split with the selected weights; None for a number that is not known or not finite.

    ``n`` examples; ``loss`` the mean task loss; ``accuracy``, its Wilson interval ``accuracy_ci95``, ``macro_f1`` and the expected
    calibration error ``ece`` as shares, not percent; ``nll`` the mean negative log-likelihood in nats.
    """

    n: int
    loss: float | None
    accuracy: float | None
    accuracy_ci95: tuple[float, float] | None
    macro_f1: float | None
    nll: float | None
    ece: float | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitMetrics:
        """From a split's entry of ``result.json``; further keys are left out."""
        known = {field.name: values[field.name] for field in fields(cls)}
        interval = known.pop("accuracy_ci95")
        return cls(**known, accuracy_ci95=(interval[0], interval[1]) if interval else None)


def validate_result(result: Mapping[str, Any]) -> None:
    """Check that a dict follows schema 1 of ``result.json``.

    Numbers that are not known are None, and so is a split without examples; further keys are welcome.

    Raises:
        RunError: A key is missing or holds something else; the message names it.
    """
    _require(result, "", ("schema", "holdfast", "finished", "config_hash", *_SECTIONS, *_SPLITS, "selections", "terms"))
    if result["schema"] != SCHEMA:
        _fail("schema", result["schema"], f"{SCHEMA}: read the run with the holdfast that wrote it")
    if not isinstance(result["finished"], bool):
        _fail("finished", result["finished"], "true or false")
    for section, keys in _SECTIONS.items():
        _require(result[section], section, keys)
    for split in _SPLITS:
        _check_metrics(result[split], split)
    _check_selections(result["selections"])
    _require(result["terms"], "terms", ())
    for name, term in result["terms"].items():
        _require(term, f"terms.{name}", ("weight", "last"))


def complete_result(known: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, Any]:
    """A whole ``result.json`` of a finished run: what is ``known``, then what was ``derived``, the rest None.

    Args:
        known: Any part of a result; sections may be partial.
        derived: Sections or single keys to use where ``known`` has none.
    """
    empty: dict[str, Any] = {section: dict.fromkeys(keys) for section, keys in _SECTIONS.items()}
    sections = {section: {**keys, **(derived.get(section) or {}), **(known.get(section) or {})} for section, keys in empty.items()}
    splits = {split: known.get(split) for split in _SPLITS}
    last = {"by": "last", "epoch": None, "step": None, "weights": "raw", "val": splits["val"], "test": splits["test"]}
    return {"schema": SCHEMA, "finished": True, **derived, "selections": [last], "terms": {}, **known, **sections, **splits}


def _fail(where: str, value: Any, expected: str) -> None:
    raise RunError(f"result.json: {where} is {value!r}, expected {expected}")


def _require(values: Any, where: str, keys: Sequence[str]) -> None:
    if not isinstance(values, Mapping):
        _fail(where or "the whole", values, "keys with values")
    for key in keys:
        if key not in values:
            raise RunError(f"result.json: the key '{where}{'.' if where else ''}{key}' is missing; put null where it is not known")


def _check_metrics(values: Any, where: str) -> None:
    if values is None:
        return
    _require(values, where, _METRICS)
    for key in _METRICS:
        if key != "accuracy_ci95" and not (values[key] is None or _is_number(values[key])):
            _fail(f"{where}.{key}", values[key], "a number or null")
    accuracy, interval = values["accuracy"], values["accuracy_ci95"]
    if accuracy is None and interval is None:
        return
    if not (isinstance(interval, list | tuple) and len(interval) == 2 and all(map(_is_number, interval))):
        _fail(f"{where}.accuracy_ci95", interval, "a pair [low, high]: accuracy is never a bare point")
    low, high = interval
    ordered = (0.0, low, accuracy, high, 1.0)
    if accuracy is None or any(left > right + _ROUNDING for left, right in pairwise(ordered)):
        _fail(f"{where}.accuracy", accuracy, f"a share between the ends of its interval {list(interval)}, which lie between 0 and 1")


def _check_selections(selections: Any) -> None:
    if not isinstance(selections, list | tuple) or not selections:
        _fail("selections", selections, "a list with the primary selection first")
    for position, selection in enumerate(selections):
        where = f"selections[{position}]"
        _require(selection, where, _SELECTION)
        if selection["by"] not in _SELECTED_BY:
            _fail(f"{where}.by", selection["by"], f"one of {', '.join(_SELECTED_BY)}")
        if selection["weights"] not in ("raw", "ema"):
            _fail(f"{where}.weights", selection["weights"], "raw or ema")
        for split in ("val", "test"):
            _check_metrics(selection[split], f"{where}.{split}")
    if selections[0]["by"] == "clean-val":
        _fail("selections[0].by", "clean-val", "another selection first: true labels of validation are for comparison")
    if selections[0]["by"] == "best-by-test":
        _fail("selections[0].by", "best-by-test", "another selection first: this one is optimistic and never primary")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
