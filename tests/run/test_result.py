"""Schema 1 of ``result.json``."""

from __future__ import annotations

import json

import pytest

from holdfast.errors import RunError
from holdfast.run import SplitMetrics, validate_result
from holdfast.run.result import complete_result

METRICS = {"n": 8, "loss": 0.7, "accuracy": 0.75, "accuracy_ci95": [0.41, 0.93], "macro_f1": 0.7, "nll": 0.6, "ece": 0.1}
RESULT = {
    "schema": 1,
    "holdfast": "0.1.0",
    "finished": True,
    "config_hash": "ab12",
    "data": {"n_train": 20, "n_val": 8, "n_test": 8, "classes": ["ant", "bee"], "fingerprint": "cd34"},
    "model": {"spec": "demo:glyphnet", "parameters": 12, "reference_fingerprint": "ef56"},
    "train": {**METRICS, "n": 20},
    "val": METRICS,
    "test": METRICS,
    "selections": [{"by": "val-accuracy", "epoch": 3, "step": 9, "weights": "raw", "val": METRICS, "test": METRICS}],
    "terms": {"cross-entropy": {"weight": 1.0, "last": 0.7}},
    "cost": {
        "device": "cpu",
        "steps": 9,
        "seconds_total": 3.0,
        "seconds_per_step": 0.3,
        "seconds_per_epoch": 1.0,
        "images_per_second": 60.0,
        "peak_memory_mib": 300.0,
    },
}


def fresh():
    """A copy in which no part is shared: ``METRICS`` stands in it several times."""
    return json.loads(json.dumps(RESULT))


def key_paths(value, prefix=()):
    """Every key of nested dicts and lists, as a path."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        if isinstance(value, dict):
            yield (*prefix, key)
        yield from key_paths(entry, (*prefix, key))


def changed(path, value):
    result = fresh()
    entry = result
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    return result


def test_a_whole_result_is_valid():
    validate_result(RESULT)


REQUIRED = [path for path in key_paths(RESULT) if path != ("terms", "cross-entropy")]


@pytest.mark.parametrize("path", REQUIRED, ids=lambda path: ".".join(map(str, path)))
def test_each_missing_key_is_named(path):
    result = fresh()
    entry = result
    for key in path[:-1]:
        entry = entry[key]
    del entry[path[-1]]
    name = ".".join(str(key) for key in path).replace("selections.0", "selections[0]")
    with pytest.raises(RunError) as error:
        validate_result(result)
    assert f"'{name}' is missing" in str(error.value)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_may_be_null(split):
    validate_result(changed((split,), None))


def test_unknown_numbers_may_be_null():
    for key in METRICS:
        if not key.startswith("accuracy"):
            validate_result(changed(("test", key), None))
    validate_result({**RESULT, "test": {**METRICS, "accuracy": None, "accuracy_ci95": None}})
    validate_result({**RESULT, "cost": dict.fromkeys(RESULT["cost"])})


def test_further_keys_are_welcome():
    validate_result({**RESULT, "notes": "x", "test": {**METRICS, "top5": 1.0}})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "schema is 2, expected 1"),
        (("finished",), "yes", "finished is 'yes', expected true or false"),
        (("data",), None, "data is None, expected keys with values"),
        (("test",), 0.75, r"test is 0\.75, expected keys with values"),
        (("test", "nll"), "low", r"test\.nll is 'low', expected a number or null"),
        (("test", "accuracy_ci95"), None, "accuracy is never a bare point"),
        (("test", "accuracy_ci95"), [0.4], "accuracy is never a bare point"),
        (("test", "accuracy"), 75.0, r"test\.accuracy is 75\.0, expected a share"),
        (("test", "accuracy"), 0.4, "between the ends of its interval"),
        (("selections",), [], r"selections is \[\], expected a list with the primary selection first"),
        (("selections", 0, "by"), "test", r"selections\[0\]\.by is 'test', expected one of val-accuracy"),
        (("selections", 0, "by"), "best-by-test", "optimistic and never primary"),
        (("selections", 0, "weights"), "swa", "expected raw or ema"),
        (("selections", 0, "test", "accuracy_ci95"), None, r"selections\[0\]\.test\.accuracy_ci95"),
        (("terms",), [], "terms is "),
    ],
)
def test_wrong_values_are_named_with_what_was_expected(path, value, message):
    with pytest.raises(RunError, match=message):
        validate_result(changed(path, value))


def test_a_percentage_is_refused_even_with_its_interval():
    with pytest.raises(RunError, match="which lie between 0 and 1"):
        validate_result({**RESULT, "test": {**METRICS, "accuracy": 75.0, "accuracy_ci95": [41.0, 93.0]}})


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_an_interval_may_miss_an_extreme_by_rounding(accuracy):
    interval = [1e-12, 0.3] if accuracy == 0 else [0.7, 1 - 1e-12]
    validate_result({**RESULT, "test": {**METRICS, "accuracy": accuracy, "accuracy_ci95": interval}})


def test_metrics_as_an_object():
    metrics = SplitMetrics.from_dict({**METRICS, "top5": 1.0})
    assert (metrics.n, metrics.accuracy, metrics.accuracy_ci95) == (8, 0.75, (0.41, 0.93))
    assert SplitMetrics.from_dict({**METRICS, "accuracy": None, "accuracy_ci95": None}).accuracy_ci95 is None


def test_a_completed_result_is_valid_and_keeps_what_is_known():
    derived = {"data": {"classes": ["ant"], "n_train": 1}, "holdfast": "0.1.0", "config_hash": "x"}
    result = complete_result({"test": METRICS, "data": {"n_train": 5}}, derived)
    validate_result(result)
    assert result["data"]["n_train"] == 5
    assert result["data"]["classes"] == ["ant"]
    assert result["data"]["n_val"] is None
    assert result["selections"][0]["test"] == METRICS
    assert result["train"] is None
