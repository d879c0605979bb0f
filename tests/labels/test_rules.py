"""Labeling functions from JSON and Python, and what is said when one of them is wrong."""

from __future__ import annotations

import json
import types

import pytest

from holdfast.errors import ConfigError, DataError
from holdfast.labels import Rule, apply_rules, read_rules
from holdfast.labels.rules import rules_of_module

CLASSES = ("ham", "spam")


@pytest.fixture
def json_rules(tmp_path):
    def write(content):
        file = tmp_path / "rules.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    return write


def module(code):
    found = types.ModuleType("mine")
    exec(code, found.__dict__)
    return found


def place(row):
    return f"line {row + 1}"


def test_patterns_and_keywords_vote_without_regard_to_case_and_for_whole_words(json_rules):
    rules = read_rules(
        json_rules(
            [
                {"label": "spam", "keywords": ["subscribe", "check out"]},
                {"id": 7, "label": "ham", "pattern": "^thank"},
                {"name": "loud", "label": "spam", "pattern": "[A-Z]{4}", "case": True},
            ]
        )
    )
    texts = ["Please SUBSCRIBE!", "Thanks for this", "unsubscribed", "check  out", "Check out my channel"]
    assert [rule.name for rule in rules] == ["1", "7", "loud"]
    assert apply_rules(rules, texts, CLASSES, where=place).tolist() == [[1, -1, 1], [-1, 0, -1], [-1, -1, -1], [-1, -1, -1], [1, -1, -1]]


def test_functions_of_a_file_are_rules_unless_a_list_says_which():
    code = "import re\ndef link(text):\n    return 'spam' if 'http' in text else None\ndef _helper(text):\n    raise ValueError\n"
    assert [rule.name for rule in rules_of_module(module(code), "rules.py")] == ["link"]
    listed = module(code + "def other(text):\n    return 'ham'\nRULES = [other]\n")
    assert [rule.name for rule in rules_of_module(listed, "rules.py")] == ["other"]


def test_a_rule_may_abstain_with_none_minus_one_or_an_empty_text():
    rules = [Rule(str(value), lambda text, value=value: value) for value in (None, -1, "", "ham")]
    assert apply_rules(rules, ["x"], CLASSES, where=place).tolist() == [[-1, -1, -1, 0]]


def test_a_rule_that_raises_is_named_with_the_text_and_the_line():
    rules = rules_of_module(module("def length(text):\n    return {3: 'ham'}[len(text)]\n"), "rules.py")
    with pytest.raises(DataError, match=r"the rule 'length' failed on line 2 \('four'\): KeyError: 4\."):
        apply_rules(rules, ["abc", "four"], CLASSES, where=place)


def test_a_vote_for_an_unknown_class_is_named():
    with pytest.raises(DataError, match=r"the rule 'r' votes for 'eggs' on line 1 .* the classes are ham, spam"):
        apply_rules([Rule("r", lambda text: "eggs")], ["x"], CLASSES, where=place)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "this is no JSON"),
        ("[]", "expected a list of rules"),
        ([{"pattern": "a"}], "entry 1: expected an object with 'label'"),
        ([{"label": "a"}], "neither 'pattern' nor a list 'keywords'"),
        ([{"label": "a", "pattern": "("}], "no regular expression"),
        ([{"name": "x", "label": "a", "pattern": "a"}, {"name": "x", "label": "b", "pattern": "b"}], "two rules are called 'x'"),
    ],
)
def test_a_file_that_is_wrong_is_named(json_rules, content, words):
    with pytest.raises(ConfigError, match=words):
        read_rules(json_rules(content))


@pytest.mark.parametrize(("code", "words"), [("x = 1", "there is no function"), ("def two(a, b):\n    return a", "'two' is no rule")])
def test_a_module_without_rules_is_named(code, words):
    with pytest.raises(ConfigError, match=words):
        rules_of_module(module(code), "rules.py")
