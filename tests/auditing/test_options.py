"""What an audit is asked for: defaults of the quick and the full one, forms of a budget, and mistyped values."""

from __future__ import annotations

import pytest

from holdfast.auditing.options import AuditOptions, in_python
from holdfast.errors import ConfigError


def resolve(**given: object) -> AuditOptions:
    return AuditOptions.resolve(given, in_python)


def test_a_quick_audit_has_two_minutes_and_a_full_one_takes_what_it_needs():
    quick, full = resolve(), resolve(full=True)
    assert (quick.over, quick.samples, quick.rtol, quick.budget, quick.products) == ("mean", 128, 0.2, 120.0, None)
    assert (full.over, full.samples, full.rtol, full.budget, full.products) == ("sample", 256, 0.05, None, None)


def test_what_is_typed_wins_over_full():
    options = resolve(full="true", over="batch", samples="9", budget="30")
    assert (options.full, options.over, options.samples, options.rtol, options.budget) == (True, "batch", 9, 0.05, 30.0)


@pytest.mark.parametrize(
    ("typed", "seconds", "products"),
    [("300", 300.0, None), (2.5, 2.5, None), ("500products", None, 500), ("none", None, None), (None, None, None)],
)
def test_a_budget_is_seconds_or_products_or_none(typed, seconds, products):
    options = resolve(budget=typed)
    assert (options.budget, options.products) == (seconds, products)


def test_none_in_python_is_the_default():
    assert resolve(batch_size=None, threads=None) == resolve()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"budget": "5 min"}, r"audit\(budget=...\): expected seconds such as 300, products such as 500products, or none, got '5 min'."),
        ({"budget": "0products"}, "got '0products'"),
        ({"budget": -1}, "got -1"),
        ({"budget": True}, "got True"),
        ({"over": "samples"}, r"audit\(over=...\): expected one of mean, batch, sample, got 'samples'."),
        ({"samples": 0}, "expected a whole number of at least 1, got 0"),
        ({"samples": 2.5}, "expected a whole number of at least 1, got 2.5"),
        ({"samples": "many"}, "got 'many'"),
        ({"rtol": 0}, "expected a number above 0, got 0"),
        ({"rtol": float("nan")}, "got nan"),
        ({"p_min": 1}, "expected a number between 0 and 1, got 1"),
        ({"eps": "-0.1"}, "expected a number of at least 0, got '-0.1'"),
        ({"full": "perhaps"}, "expected true or false, got 'perhaps'"),
        ({"layers": " "}, "expected a text, got ' '"),
        ({"smples": 3}, r"audit\(smples=...\): unknown option. Did you mean 'samples'"),
        ({"p_min": 0.1, "loss_bound": 3}, r"audit\(p_min=...\) 0.1: audit\(loss_bound=...\) says the largest loss already"),
    ],
)
def test_a_wrong_value_is_said_in_a_sentence(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        resolve(**given)
