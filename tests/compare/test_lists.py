"""Lists as users write them."""

from __future__ import annotations

import pytest

from holdfast.compare.lists import named_list, number_of, seed_list, share_list
from holdfast.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("3", (0, 1, 2)),
        (3, (0, 1, 2)),
        ("7,", (7,)),
        ("3,5, 8", (3, 5, 8)),
        ([4], (4,)),
        (range(2, 4), (2, 3)),
        ("4294967295,", (2**32 - 1,)),
    ],
)
def test_a_number_counts_seeds_and_a_list_names_them(given, seeds):
    assert seed_list(given, "--seeds") == seeds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "--seeds 0: that makes a comparison of zero runs; give at least one seed."),
        ([], "--seeds : that makes a comparison of zero runs; give at least one seed."),
        (",", "--seeds ,: that makes a comparison of zero runs; give at least one seed."),
        ("1,2,1", "--seeds 1,2,1: 1 stands there twice; every run is made once, so leave one of them out."),
        ("two", "--seeds: expected a whole number of at least 0, or several as 0,1,2, got 'two'."),
        ("-1", "--seeds: expected a whole number of at least 0, or several as 0,1,2, got '-1'."),
        ("1.5", "--seeds: expected a whole number of at least 0, or several as 0,1,2, got '1.5'."),
        (True, "--seeds: expected a whole number of at least 0, or several as 0,1,2, got True."),
        ("4294967296,", "--seeds: expected a whole number of at least 0, or several as 0,1,2, got '4294967296,'."),
        ("20250101", "--seeds 20250101: this counts seeds, and 10000 are the most; the one seed is written 20250101, with comma."),
    ],
)
def test_seeds_that_cannot_be(given, message):
    with pytest.raises(ConfigError) as caught:
        seed_list(given, "--seeds")
    assert str(caught.value) == message


@pytest.mark.parametrize(("given", "shares"), [("0.15,0.5", (0.15, 0.5)), (0.25, (0.25,)), ([0.25, 1], (0.25, None)), ("1", (None,))])
def test_shares_of_train(given, shares):
    assert share_list(given, "--fractions") == shares


@pytest.mark.parametrize("given", ["0", "1.2", "-0.1", "half", [True], "nan", {"a": 1}])
def test_shares_that_cannot_be(given):
    with pytest.raises(ConfigError, match=r"^--fractions: expected shares"):
        share_list(given, "--fractions")


def test_shares_are_given_once_and_at_all():
    with pytest.raises(ConfigError, match=r"^--fractions 0.5,0.50: 0.5 stands there twice"):
        share_list("0.5,0.50", "--fractions")
    with pytest.raises(ConfigError, match="zero runs"):
        share_list("", "--fractions")


def test_names_are_divided_by_commas_unless_they_are_paths():
    assert named_list("a, b", "--models") == ("a", "b")
    assert named_list("cars,2/", "DATA", divided=False) == ("cars,2/",)
    assert named_list(["a", "b"], "data") == ("a", "b")


@pytest.mark.parametrize("given", ["a,,b", "", [1], 3, ["a", ""]])
def test_names_that_are_none(given):
    with pytest.raises(ConfigError, match=r"^--models: expected names divided by commas, got"):
        named_list(given, "--models")


def test_names_are_given_once_and_at_all():
    with pytest.raises(ConfigError, match="'a' stands there twice"):
        named_list("a,b,a", "--models")
    with pytest.raises(ConfigError, match="zero runs"):
        named_list([], "models")


def test_a_count_is_at_least_one():
    assert number_of("2", "--workers") == 2
    with pytest.raises(ConfigError, match=r"^--workers: expected a whole number of at least 1, got 0."):
        number_of(0, "--workers")
