"""The schema of ``audit.json``, and a record read by attribute."""

from __future__ import annotations

import copy
import math

import pytest

from holdfast import audit
from holdfast.auditing.record import estimate, validate_audit
from holdfast.auditing.result import Audit, Section
from holdfast.errors import RunError


@pytest.fixture(scope="module")
def measured(finished):
    return audit(finished, budget="60products", rtol=0.9).record


@pytest.fixture
def record(measured):
    """A whole record that may be changed."""
    return copy.deepcopy(dict(measured))


def test_further_keys_are_welcome_and_null_is_what_was_not_measured(record):
    record["further"] = {"a": 1}
    record["bound"] = record["spectrum"] = record["features"] = record["calibration"] = None
    validate_audit(record)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (("bound",), "the key 'bound' is missing; put null where it is not known"),
        (("totals", "trace"), "the key 'totals.trace' is missing"),
        (("layers", 0, "frob"), r"the key 'layers\[0\].frob' is missing"),
        (("layers", 1, "trace", "met"), r"the key 'layers\[1\].trace.met' is missing"),
        (("gap", "split"), "the key 'gap.split' is missing"),
        (("bound", "assumptions"), "the key 'bound.assumptions' is missing"),
        (("spectrum", "top", 0, "stderr"), r"the key 'spectrum.top\[0\].stderr' is missing"),
    ],
)
def test_a_missing_key_is_named(record, path, sentence):
    *above, last = path
    place = record
    for key in above:
        place = place[key]
    del place[last]
    with pytest.raises(RunError, match=sentence):
        validate_audit(record)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("schema", 2, "schema is 2, expected 1: read the audit with the holdfast that wrote it"),
        ("layers", {}, "layers is {}, expected a list"),
        ("notes", [3], r"notes\[0\] is 3, expected a sentence"),
        ("gap", None, "gap is None, expected keys with values"),
    ],
)
def test_a_wrong_kind_of_value_is_named(record, key, value, sentence):
    with pytest.raises(RunError, match=sentence):
        validate_audit({**record, key: value})


def test_a_number_that_json_does_not_know_is_refused(record):
    record["gap"]["gap"] = math.nan
    with pytest.raises(RunError, match=r"gap\.gap is nan, expected a finite number, or null"):
        validate_audit(record)


def test_an_estimate_that_is_not_finite_is_none():
    assert estimate(math.nan, 1.0) is None
    assert estimate(1, math.inf) == {"value": 1.0, "stderr": None, "met": True}


def test_sections_are_read_by_key_and_by_attribute(record):
    found = Audit(record)
    assert found.totals.trace.value == found.totals["trace"]["value"] == record["totals"]["trace"]["value"]
    assert dict(found.gap) == record["gap"]
    assert Audit({**record, "bound": None}).bound is None
    with pytest.raises(AttributeError, match="there is no 'tarce' here; there are l2,"):
        _ = found.totals.tarce
    assert Section({"a": [{"b": 1}]}).a[0].b == 1
