"""From what is typed about methods to the canonical list."""

from __future__ import annotations

import pytest

from holdfast import catalog
from holdfast.catalog import Method
from holdfast.config.layers import command_line, from_yaml, keywords
from holdfast.config.load import resolve
from holdfast.errors import ConfigError

NEEDED = {"data": "cars/", "model": "timm:resnet18", "out": "runs/a"}


def methods(*layers):
    """The resolved method list of some layers."""
    return resolve([*layers, command_line(NEEDED)]).method


def in_yaml(values):
    """Keys of a file ``run.yaml``."""
    return from_yaml("run.yaml", values)


@pytest.fixture
def second_loss(monkeypatch):
    """A catalog with one more task loss."""
    record = Method("gce", "task loss", "holdfast.losses.robust:GeneralizedCrossEntropy", "a robust loss")
    monkeypatch.setitem(catalog.METHODS, "gce", record)


def test_plain_is_implied_and_every_option_filled_in():
    plain, l2_sp = methods(command_line({"method": "l2-sp"}))
    assert plain == {"name": "plain"}
    assert l2_sp == {"name": "l2-sp", "weight": 0.01, "head_weight": 0.01}


@pytest.mark.parametrize(
    "value",
    [
        "adarand+l2-sp",
        " adarand + l2-sp ",
        ["adarand", "l2-sp"],
        [{"name": "adarand"}, {"name": "l2-sp"}],
        ["adarand", {"name": "l2-sp", "weight": 0.01}],
        ["adarand", "l2-sp", "plain"],
    ],
)
def test_ways_to_write_a_composition_are_one(value):
    entries = methods(from_yaml("run.yaml", {"method": value}))
    assert [entry["name"] for entry in entries] == ["plain", "adarand", "l2-sp"]
    assert entries == methods(command_line({"method": "adarand+l2-sp"}))


def test_a_single_mapping_is_a_list_of_one():
    assert methods(keywords({"method": {"name": "adarand", "alpha": 0.3}}))[1]["alpha"] == 0.3


def test_a_named_task_loss_replaces_plain(second_loss):
    assert [entry["name"] for entry in methods(command_line({"method": "l2-sp+gce"}))] == ["gce", "l2-sp"]


def test_an_option_of_the_single_method_needs_no_name():
    entry = methods(command_line({"method": "adarand", "method.alpha": "0.3", "method.intra": "false", "method.prior-lr": "0.1"}))[1]
    assert (entry["alpha"], entry["intra"], entry["prior_lr"]) == (0.3, False, 0.1)


def test_an_option_of_a_composed_method_is_given_by_name():
    _, adarand, l2_sp = methods(command_line({"method": "adarand+l2-sp", "method.adarand.weight": "0.1", "method.l2-sp.weight": "0.2"}))
    assert (adarand["weight"], l2_sp["weight"]) == (0.1, 0.2)


def test_command_line_changes_an_option_of_the_method_in_yaml():
    file = from_yaml("run.yaml", {"method": [{"name": "adarand", "weight": 2.0, "alpha": 0.9}]})
    entry = methods(file, command_line({"method.alpha": "0.3"}))[1]
    assert (entry["weight"], entry["alpha"]) == (2.0, 0.3)


def test_a_method_named_later_replaces_the_earlier_with_all_its_options():
    file = from_yaml("run.yaml", {"method": [{"name": "adarand", "weight": 2.0}], "method.alpha": 0.9})
    entry = methods(file, command_line({"method": "adarand"}))[1]
    assert (entry["weight"], entry["alpha"]) == (1.0, 0.5)


MISTAKES = [
    (command_line, {"method": "adrand"}, "--method: unknown method 'adrand'. Did you mean 'adarand'? Known: adarand, "),
    (command_line, {"method": "adarand+"}, "--method: a method name is missing in 'adarand+'"),
    (command_line, {"method": "l2-sp+adarnd"}, "--method: unknown method 'adarnd'. Did you mean 'adarand'?"),
    (keywords, {"method": "adrand"}, "fit(method=...): unknown method 'adrand'. Did you mean 'adarand'?"),
    (in_yaml, {"method": "adrand"}, "run.yaml: method: unknown method 'adrand'. Did you mean 'adarand'?"),
    (in_yaml, {"method": [{"name": "adrand"}]}, "run.yaml: method[0].name: unknown method 'adrand'. Did you mean 'adarand'?"),
    (in_yaml, {"method": ["plain", {"name": "fpn"}]}, "run.yaml: method[1].name: unknown method 'fpn'. Did you mean 'fnp'?"),
    (
        in_yaml,
        {"method": [{"name": "adarand", "alhpa": 1}]},
        "run.yaml: method[0].alhpa: method 'adarand' has no option 'alhpa'. Did you mean 'alpha'?",
    ),
    (in_yaml, {"method": [{"name": "adarand", "alpha": 2}]}, "run.yaml: method[0].alpha: expected a number from 0 to 1, got 2"),
    (in_yaml, {"method": [{"alpha": 2}]}, "run.yaml: method[0]: expected a name or {name: …, option: …}"),
    (in_yaml, {"method": None}, "run.yaml: method: expected a method name or a list of methods, got None"),
    (
        command_line,
        {"method": "adarand", "method.alhpa": "1"},
        "--method.alhpa: method 'adarand' has no option 'alhpa'. Did you mean 'alpha'?",
    ),
    (command_line, {"method": "adarand", "method.alpha": "x"}, "--method.alpha: expected a number from 0 to 1, got 'x'."),
    (
        command_line,
        {"method": "randreg", "method.prior": "gauss"},
        "--method.prior: expected one of uniform, normal, pretrained, got 'gauss'.",
    ),
    (command_line, {"method.alpha": "0.3"}, "--method.alpha: method 'plain' has no option 'alpha'. It has no options."),
    (
        command_line,
        {"method": "adarand+l2-sp", "method.alpha": "0.3"},
        "--method.alpha: this run composes adarand and l2-sp; say which is meant: --method.adarand.alpha.",
    ),
    (
        command_line,
        {"method": "l2-sp", "method.adarand.alpha": "0.3"},
        "--method.adarand.alpha: the method of this run is plain+l2-sp; add 'adarand' to it with --method plain+l2-sp+adarand.",
    ),
    (
        command_line,
        {"method": "adarand", "method.adrand.alpha": "0.3"},
        "--method.adrand.alpha: unknown method 'adrand'. Did you mean 'adarand'?",
    ),
    (command_line, {"method": "fnp+l2-sp+fnp"}, "--method: method 'fnp' is named twice"),
    (command_line, {"method": "plain+gce"}, "--method: 'plain' and 'gce' are both task losses"),
]


@pytest.mark.parametrize(("door", "values", "sentence"), MISTAKES)
@pytest.mark.usefixtures("second_loss")
def test_a_mistake_is_told_in_one_sentence(door, values, sentence):
    with pytest.raises(ConfigError) as caught:
        methods(door(values))
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)
