"""Numbers as cells: what is shown is what was measured, to the digits that its error leaves."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.report.numbers import accuracy_interval, amount, estimated, interval_text, with_error
from holdfast.report.reading import Estimate, at, number

SIGNS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def read(text: str) -> tuple[float, float]:
    """The value and half-width that a reader would take from a cell."""
    found = re.fullmatch(r"\(?(\S+) ± ([^)\s]+)\)?(?: × 10(\S+))?", text)
    scale = 10.0 ** int((found[3] or "0").translate(SIGNS))
    return float(found[1]) * scale, float(found[2]) * scale


@given(st.floats(1e-9, 1e9), st.floats(1e-3, 10), st.sampled_from([-1, 1]))
def test_value_and_error_can_be_read_back(size, relative, sign):
    value, stderr = sign * size, relative * size
    shown, half = read(with_error(Estimate(value, stderr)).text)
    assert half == pytest.approx(1.96 * stderr, rel=0.06)
    assert shown == pytest.approx(value, abs=0.06 * 1.96 * stderr)


@pytest.mark.parametrize("stderr", [None, 0.0, 1e-9])
def test_a_number_without_a_visible_error_stands_alone(stderr):
    assert with_error(Estimate(12.3456, stderr)).text == "12.3"


def test_what_is_not_met_is_marked():
    assert estimated({"value": 1.0, "stderr": 0.1, "met": False}).flag == "not met"
    assert estimated({"value": 1.0, "stderr": 0.1, "met": True}).flag == ""
    assert estimated(None).text == "-"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "3", True, [1], {}])
def test_what_is_no_number_is_a_dash(value):
    assert number(value) is None
    assert amount(value) == "-"


def test_an_accuracy_never_stands_without_its_interval_where_there_is_one():
    assert accuracy_interval(0.817, [0.748, 0.87]) == "81.7 % (74.8 to 87.0 %)"
    assert accuracy_interval(None, None) == "-"


@pytest.mark.parametrize("interval", [None, [0.1], [None, 0.2], "ab", [0.1, float("nan")], 3])
def test_a_broken_interval_is_left_out(interval):
    assert interval_text(interval) == ""


def test_a_missing_key_is_none():
    assert at({"a": {"b": 1}}, "a", "c") is None
    assert at(None, "a") is None
    assert at({"a": [1]}, "a", "b") is None
