"""Names behind patterns with braces."""

from __future__ import annotations

import pytest

from holdfast.data.braces import expand_braces
from holdfast.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000009..000011}.tar", ["s-000009.tar", "s-000010.tar", "s-000011.tar"]),
        ("s-{9..11}", ["s-9", "s-10", "s-11"]),
        ("s-{9..011}", ["s-009", "s-010", "s-011"]),
        ("{b,a}{0..1}", ["b0", "b1", "a0", "a1"]),
        ("{train/{0..1},val}/x", ["train/0/x", "train/1/x", "val/x"]),
        ("x{a{b,c}d{e,f},g}", ["xabde", "xabdf", "xacde", "xacdf", "xg"]),
        ("{0..1,7}", ["0", "1", "7"]),
        ("{a,a}", ["a"]),
        ("{,-b}.tar", [".tar", "-b.tar"]),
    ],
)
def test_braces_stand_for_lists_and_ranges(pattern, names):
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("s-{000..012", "a brace is not closed"),
        ("s-000}", "a brace is closed that was not opened"),
        ("{x}.tar", "{x} is neither a range such as {000..012} nor a list such as {train,val}"),
        ("{5..1}", "the range 5..1 ends before it begins"),
        ("{0..9999999}", "the range 0..9999999 has more than 1000000 numbers"),
        ("{0..9999}{0..9999}", "it stands for more than 1000000 names"),
    ],
)
def test_what_is_no_pattern_is_said(pattern, sentence):
    with pytest.raises(DataError) as error:
        expand_braces(pattern)
    assert str(error.value) == sentence
