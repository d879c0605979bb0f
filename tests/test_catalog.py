"""Method specs and registration: what the contract suite and the command line do not go through."""

from __future__ import annotations

import pytest

from holdfast.catalog import METHODS, Option, method_record, parse_methods, register
from holdfast.errors import ConfigError
from holdfast.terms import Regularizer


def test_every_form_of_a_spec_gives_the_same_list() -> None:
    forms = ["adarand+l2-sp", ["adarand", "l2-sp"], [{"name": "plain"}, {"name": "adarand", "weight": 1.0}, "l2-sp"]]
    first, *others = [parse_methods(form) for form in forms]
    assert all(other == first for other in others)
    assert [entry["name"] for entry in first] == ["plain", "adarand", "l2-sp"]
    assert first[1]["alpha"] == 0.5


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("adrand", r"m: unknown method 'adrand'\. Did you mean 'adarand'"),
        ("adarand+", r"m: a method name is missing in 'adarand\+'"),
        ("fnp+fnp", r"m: method 'fnp' is named twice"),
        ([{"name": "adarnd"}], r"m\[0\]\.name: unknown method 'adarnd'"),
        ([{"name": "adarand", "alfa": 1}], r"m\[0\]\.alfa: method 'adarand' has no option 'alfa'\. Did you mean 'alpha'"),
        ([{"name": "adarand", "alpha": 1.5}], r"m\[0\]\.alpha: expected a number from 0 to 1, got 1\.5"),
        ([{"name": "plain", "weight": 1}], r"m\[0\]\.weight: method 'plain' has no option 'weight'\. It has no options"),
        ([{"weight": 1}], r"m\[0\]: expected a name or"),
        (7, "m: expected a method name or a list of methods, got 7"),
    ],
)
def test_wrong_specs_are_named(spec: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_methods(spec, label="m")


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        (Option("x", float, 1.0, "", low=0, high=1), "0.25", 0.25),
        (Option("x", float, 1.0, "", low=0, high=1), "1.25", None),
        (Option("x", float, 1.0, ""), "nan", None),
        (Option("x", float, 1.0, ""), True, None),
        (Option("x", int, 1, ""), "3", 3),
        (Option("x", int, 1, ""), "3.5", None),
        (Option("x", bool, True, ""), "no", False),
        (Option("x", bool, True, ""), "maybe", None),
        (Option("x", str, "a", "", choices=("a", "b")), "b", "b"),
        (Option("x", str, "a", "", choices=("a", "b")), "c", None),
        (Option("x", str, "none", "", low=0, word="none"), "none", "none"),
        (Option("x", str, "none", "", low=0, word="none"), 0.5, "0.5"),
        (Option("x", str, "none", "", low=0, word="none"), " 1.0", "1"),
        (Option("x", str, "none", "", low=0, word="none"), -1, None),
        (Option("x", str, "none", "", low=0, word="none"), "inf", None),
        (Option("x", str, "none", "", low=0, word="none"), "auto", None),
        (Option("x", str, "none", "", low=0, word="none"), True, None),
        (Option("x", str, "none", "", low=0, word="none"), "a=1", None),
        (Option("x", str, "none", "", low=0, word="none", by_pattern=True), " a*=1.0, b!a = 0.5", "a*=1,b!a=0.5"),
        (Option("x", str, "none", "", low=0, word="none", by_pattern=True), "a=1,b=-1", None),
        (Option("x", str, "none", "", low=0, word="none", by_pattern=True), "a=1,2", None),
        (Option("x", str, "none", "", low=0, word="none", by_pattern=True), "a=1,a=1", None),
    ],
)
def test_options_take_what_their_type_and_range_allow(option: Option, given: object, expected: object) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match=r"^expected "):
            option.parse(given)
    else:
        assert option.parse(given) == expected


class Shrink(Regularizer):
    """Pulls something somewhere."""

    def __init__(self, *, rate: float = 0.5, kind: str = "soft") -> None:
        super().__init__()
        self.rate = rate


def test_a_registered_method_brings_its_options_and_weights(own_catalog: None) -> None:
    register("shrink", weight=0.1, head_weight=0.2)(Shrink)
    record = method_record("shrink")
    assert record.load() is Shrink
    assert record.summary == "Pulls something somewhere."
    assert {name: option.default for name, option in record.all_options.items()} == {
        "weight": 0.1,
        "head_weight": 0.2,
        "rate": 0.5,
        "kind": "soft",
    }


def test_registering_refuses_taken_names_and_untyped_arguments(own_catalog: None) -> None:
    with pytest.raises(ConfigError, match="'adarand' exists already"):
        register("adarand")(Shrink)
    with pytest.raises(ConfigError, match="no method name"):
        register("Shrink it")
    with pytest.raises(ConfigError, match="unknown argument 'wait'"):
        register("shrink", wait=1.0)

    class Untyped(Regularizer):
        def __init__(self, rate=0.5) -> None:
            super().__init__()

    with pytest.raises(ConfigError, match="'rate' of Untyped needs a default and one of the types"):
        register("untyped")(Untyped)
    assert "untyped" not in METHODS
