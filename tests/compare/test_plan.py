"""From what was asked to cells."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
from tests.compare.asking import FINGERPRINTS, asked, in_yaml, plan

from holdfast.compare.asked import Asked, command_line, from_yaml, keywords
from holdfast.compare.cells import Setting
from holdfast.compare.plan import expand, read_shape
from holdfast.config.layers import from_yaml as fit_yaml
from holdfast.config.load import config_to_yaml_dict, resolve
from holdfast.errors import ConfigError


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def refused(question):
    """The sentence that something is refused with."""
    with pytest.raises(ConfigError) as caught:
        plan(question())
    return str(caught.value)


def test_cells_are_settings_times_methods_times_seeds():
    found = plan(asked(models="demo:glyphnet,timm:resnet18", fractions="0.25,1", seeds="3", data_seeds="2"))
    assert found.searches == ()
    assert len(found.fixed) == 2 * 2 * 2 * 3 * 2 == len({cell.key for cell in found.fixed})
    settings = {cell.setting for cell in found.fixed}
    assert settings == {Setting("demo:digits", model, share) for model in ("demo:glyphnet", "timm:resnet18") for share in (0.25, None)}
    assert {(cell.seed, cell.data_seed) for cell in found.fixed} == {(seed, data) for seed in range(3) for data in range(2)}


def test_cells_come_seed_by_seed_so_that_early_ones_are_pairs():
    assert [(cell.seed, cell.method) for cell in plan(asked()).fixed] == [(0, "plain"), (0, "adarand"), (1, "plain"), (1, "adarand")]


def test_the_options_of_a_cell_make_its_run():
    cell = plan(asked(epochs="7", fractions="0.5", data_seeds="4,", **{"method.adarand.alpha": "0.25"})).fixed[-1]
    config = resolve([fit_yaml("cell", {**cell.options, "out": "x"})])
    assert {**config_to_yaml_dict(config), "out": ""} == {**cell.options, "out": ""}
    assert (config.epochs, config.train_fraction, config.seed, config.data_seed) == (7, 0.5, 1, 4)
    assert (config.data, config.model) == ("demo:digits", "demo:glyphnet")
    assert [entry["name"] for entry in config.methods] == ["plain", "adarand"]
    assert config.methods[1]["alpha"] == 0.25
    assert "out" not in cell.options


def test_an_entry_in_yaml_may_have_a_name_and_options_of_its_own():
    methods = ["plain", {"name": "decayed", "method": "plain", "layer_decay": 0.7}, {"name": "adarand", "weight": 0.5, "lr": 0.1}]
    found = {cell.method: cell.options for cell in plan(in_yaml(methods=methods, lr=0.02)).fixed}
    assert list(found) == ["plain", "decayed", "adarand"]
    assert [found[label]["layer_decay"] for label in found] == [1.0, 0.7, 1.0]
    assert [found[label]["lr"] for label in found] == [0.02, 0.02, 0.1]
    assert found["adarand"]["method"][1]["weight"] == 0.5


def test_a_baseline_stands_above_what_all_share_and_below_what_its_entry_says(monkeypatch):
    options = {"slow": {"lr": 0.001, "layer_decay": 0.5}}
    contenders = importlib.import_module("holdfast.compare.contenders")  # holdfast.compare is the function
    monkeypatch.setattr(contenders, "BASELINES", options)
    monkeypatch.setattr(contenders, "baseline_options", options.get)
    entry = {"name": "slower", "method": "slow", "lr": 0.0001}
    found = {cell.method: cell.options for cell in plan(in_yaml(methods=["plain", "slow", entry], lr=0.1)).fixed}
    assert [found[label]["lr"] for label in ("plain", "slow", "slower")] == [0.1, 0.001, 0.0001]
    assert [found[label]["layer_decay"] for label in ("plain", "slow", "slower")] == [1.0, 0.5, 0.5]


def test_baselines_of_the_catalog_can_be_compared():
    found = {cell.method: cell.options for cell in plan(asked(methods="plain,llrd,lp-ft")).fixed}
    assert found["llrd"]["layer_decay"] < 1 == found["plain"]["layer_decay"]
    assert found["lp-ft"]["recipe"] == "lp-ft"


def test_the_command_line_wins_over_the_file():
    question = Asked.of([from_yaml("all.yaml", {"seeds": 4, "lr": 0.1, "epochs": 3}), *asked(lr="0.2").layers])
    cells = plan(question).fixed
    assert {cell.seed for cell in cells} == {0, 1}
    assert {(cell.options["lr"], cell.options["epochs"]) for cell in cells} == {(0.2, 3)}


def test_what_was_asked_can_be_written_down_and_asked_again():
    grid = ["adarand.weight=0.1,1", "plain.lr=0.01,0.1"]
    first = asked(grid=grid, data_seeds="7,", epochs="4", flip="false", shots="5", **{"method.adarand.alpha": "0.25"})
    again = Asked.of([from_yaml("comparison.yaml", first.complete()), command_line({"out": "elsewhere"})])
    assert plan(again).searches == plan(first).searches


def test_options_that_only_some_methods_use_are_given_to_those(tmp_path):
    cells = plan(asked(methods="plain,uot,forward,adarand", source_data="demo:digits", transition="symmetric:0.2")).fixed
    found = {cell.method: cell.options for cell in cells}
    assert {label: options["source_data"] for label, options in found.items()} == {
        **dict.fromkeys(("plain", "forward", "adarand")),
        "uot": "demo:digits",
    }
    assert found["forward"]["method"][0]["transition"] == "symmetric:0.2"
    assert found["plain"]["transition"] is None


# ------------------------------------------------------------------------------------------------------------------ search


def test_a_search_has_tuning_cells_for_each_trial_and_seeds_of_its_own():
    found = plan(asked(grid=["adarand.weight=0.1,1", "plain.lr=0.01,0.1"], tune_seeds="2", seeds="3"))
    assert found.fixed == ()
    plain, adarand = found.searches
    assert list(plain.tuning) == ["lr=0.01", "lr=0.1"]
    assert list(adarand.tuning) == list(adarand.final) == ["weight=0.1", "weight=1"]
    assert [(cell.seed, cell.tuning, cell.trial) for cell in adarand.tuning["weight=1"]] == [
        (1000, True, "weight=1"),
        (1001, True, "weight=1"),
    ]
    assert [(cell.seed, cell.tuning) for cell in adarand.final["weight=1"]] == [(0, False), (1, False), (2, False)]
    assert [cell.options["method"][1]["weight"] for cell in adarand.final["weight=1"]] == [1.0] * 3
    assert [cells[0].options["lr"] for cells in plain.tuning.values()] == [0.01, 0.1]
    assert len(found.expected) == 2 * (2 * 2 + 3)
    assert len(list(found.every)) == 2 * (2 * 2 + 2 * 3)


def test_seeds_of_trials_are_none_of_those_that_are_compared():
    shape = read_shape(asked(grid=["lr=0.01,0.1"], seeds="1000,5,1001", tune_seeds="2"))
    assert shape.tune_seeds == (1002, 1003)


def test_each_data_seed_has_a_search_of_its_own_on_its_own_splits():
    found = plan(asked(grid=["lr=0.01,0.1"], data_seeds="2"))
    assert [(search.method, search.data_seed) for search in found.searches] == [("plain", 0), ("adarand", 0), ("plain", 1), ("adarand", 1)]
    assert {cell.data_seed for cells in found.searches[3].tuning.values() for cell in cells} == {1}


def test_a_grid_for_all_is_crossed_with_that_of_a_method():
    found = plan(asked(grid=["lr=0.01,0.1", "adarand.weight=1", "plain.weight-decay=0"]))
    assert list(found.searches[1].tuning) == ["lr=0.01, weight=1", "lr=0.1, weight=1"]
    assert list(found.searches[0].tuning) == ["lr=0.01, weight-decay=0", "lr=0.1, weight-decay=0"]


def test_a_method_s_own_values_of_an_option_replace_those_for_all():
    found = plan(asked(grid=["lr=0.01,0.1", "plain.lr=1,2"]))
    assert [list(search.tuning) for search in found.searches] == [["lr=1", "lr=2"], ["lr=0.01", "lr=0.1"]]


def test_grids_in_yaml():
    found = plan(in_yaml(grid={"adarand": {"weight": [0.1, 1]}, "plain": {"lr": [0.1, 0.2]}, "epochs": [3]}))
    assert list(found.searches[1].tuning) == ["weight=0.1, epochs=3", "weight=1, epochs=3"]


def test_an_unsearched_method_is_compared_as_it_is():
    found = plan(asked(grid=["adarand.weight=0.1,1"]))
    assert [cell.method for cell in found.fixed] == ["plain", "plain"]
    assert [search.method for search in found.searches] == ["adarand"]


# ----------------------------------------------------------------------------------------------------------------- refused


def test_unequal_grids_say_how_many_trials_each_has():
    text = refused(lambda: asked(methods="plain,adarand,l2-sp", grid=["adarand.weight=0.1,1,2", "l2-sp.weight=1,2"]))
    assert text == "--grid: a fair search tries every method equally often, and here the trials are adarand 3, l2-sp 2; give each as many."


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"methods": None}, "--methods is missing; say what to compare, such as plain,adarand,l2-sp."),
        ({"methods": ""}, "--methods: expected methods such as plain,adarand, got ''; without any there are zero runs."),
        ({"methods": "plain,plain"}, "--methods: 'plain' stands there twice; give one another name, as {name: plain-2, method: plain}."),
        ({"data": None}, "DATA is missing; for example: holdfast compare cars/ "),
        ({"models": None}, "--models is missing; for example: holdfast compare cars/ "),
        ({"models": "resnet18"}, "--models 'resnet18': say where the network comes from"),
        ({"seeds": "0"}, "--seeds 0: that makes a comparison of zero runs"),
        ({"seeds": "1,1"}, "--seeds 1,1: 1 stands there twice"),
        ({"data_seeds": "2,2"}, "--data-seeds 2,2: 2 stands there twice"),
        ({"baseline": "bss"}, "--baseline bss: is none of those that are compared: plain, adarand."),
        ({"tune_seeds": "0,"}, "--tune-seeds: expected a whole number of at least 0"),
        ({"lr": "fast"}, "--lr: expected a number, got 'fast'."),
        ({"method.alpha": "0.3"}, "--method.alpha: which method has it? Type --method.NAME.alpha."),
        ({"method.bss.k": "2"}, "--method.bss.k: the method 'bss' is not compared."),
        ({"method.adarand.alhpa": "2"}, "--method.adarand.alhpa: method 'adarand' has no option 'alhpa'. Did you mean 'alpha'?"),
        ({"grid": ["adarand.weight"]}, "--grid adarand.weight: expected the form NAME.OPTION=VALUE,VALUE"),
        ({"grid": ["adarand.weight="]}, "--grid adarand.weight=: no value is given, which makes a search of zero runs"),
        ({"grid": ["adarand.weight=1,1"]}, "--grid adarand.weight=1,1: a value stands there twice"),
        ({"grid": ["bss.weight=1"]}, "--grid bss.weight=1: 'bss' is not compared. Known: adarand, plain."),
        ({"grid": ["adarand.wight=1"]}, "--grid adarand.wight=1: adarand, as fit, has no option 'wight'. Did you mean 'weight'?"),
        ({"grid": ["adarand.weight=heavy"]}, "--grid adarand.weight=heavy: expected a number of at least 0, got 'heavy'."),
        ({"grid": ["weight=1"]}, "--grid weight=1: fit has no option 'weight'."),
        ({"grid": ["lr=1", "lr=2"]}, "--grid lr=2: lr has values already; give all of them at once."),
        ({"grid": ["plain.shots=1,2"]}, "--grid plain.shots=1,2: must be equal for all methods, or their runs are not paired"),
        ({"grid": ["plain.seed=1,2"]}, "--grid plain.seed=1,2: must be equal for all methods"),
    ],
)
def test_what_is_refused_is_named_as_it_was_typed(typed, message):
    assert refused(lambda: asked(**typed)).startswith(message)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"seed": "3"}, "--seed 3: a comparison has --seeds instead."),
        ({"method": "plain"}, "--method plain: a comparison has --methods instead."),
        ({"train_fraction": "0.5"}, "--train-fraction 0.5: a comparison has --fractions instead."),
        ({"devices": "2"}, "--devices 2: a comparison starts its own processes; leave it out."),
        ({"epohcs": "3"}, "--epohcs: unknown option. Did you mean --epochs?"),
        ({"model": "demo:glyphnet"}, "--model and --models: both name the networks; give one of them."),
    ],
)
def test_options_of_fit_that_are_others_here(typed, message):
    with pytest.raises(ConfigError) as caught:
        asked(**typed)
    assert str(caught.value) == message


def test_an_unknown_method_is_answered_with_the_nearest_method_or_baseline():
    assert refused(lambda: asked(methods="plain,adrand")).startswith("--methods: unknown method 'adrand'. Did you mean 'adarand'?")
    assert refused(lambda: asked(methods="plain,lp-tf")).startswith("--methods: unknown method 'lp-tf'. Did you mean 'lp-ft'?")
    assert refused(lambda: asked(methods="plain+adrand")).startswith("--methods: unknown method 'adrand'.")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "x", "method": "plain", "layr_decay": 1}, "all.yaml: methods[1]: unknown key 'layr_decay'. Did you mean 'layer_decay'?"),
        (
            {"name": "x", "method": "plain", "layer_decay": 7},
            "all.yaml: methods[1].layer_decay: expected a number above 0 and at most 1, got 7.0.",
        ),
        ({"name": "x", "method": "plain", "shots": 7}, "all.yaml: methods[1].shots: must be equal for all methods"),
        ({"name": "x", "method": "plain", "out": "y"}, "all.yaml: methods[1].out: must be equal for all methods"),
        ({"name": "x", "method": "plane"}, "all.yaml: methods[1].method: unknown method 'plane'."),
        ({"name": "a,b", "method": "plain"}, "all.yaml: methods[1]: 'a,b' cannot be a name; leave out commas, points and equals signs."),
        ({"method": "plain"}, "all.yaml: methods[1]: expected a method or {name: …, method: …, option: …}, got {'method': 'plain'}."),
        (3, "all.yaml: methods[1]: expected a method or {name: …, method: …, option: …}, got 3."),
    ],
)
def test_entries_that_are_refused(entry, message):
    assert refused(lambda: in_yaml(methods=["adarand", entry])).startswith(message)


def test_two_names_for_the_same_runs_are_refused():
    text = refused(lambda: in_yaml(methods=["plain", {"name": "again", "method": "plain"}]))
    assert text == "'plain' and 'again' have the same options, so that their runs are the same; leave one out."


def test_ranks_of_torchrun_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(asked) == "compare starts its own processes; start it without torchrun, as holdfast compare ..."


def test_python_speaks_of_keywords():
    question = Asked.of([keywords({**asked().layers[0].values, "seeds": [1, 1]})])
    with pytest.raises(ConfigError, match=r"^compare\(seeds=...\) 1,1: 1 stands there twice"):
        read_shape(question)


def test_a_plugin_s_methods_are_known(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from holdfast import Regularizer, Scope, register\n"
        "@register('drift-of-test-plan')\nclass Drift(Regularizer):\n    SCOPE = Scope.EXAMPLE\n"
        "    def __init__(self, *, pace: float = 0.5) -> None:\n        super().__init__()\n"
        "    def penalty(self, step):\n        return step.logits.mean()\n"
    )
    found = plan(asked(methods="plain,drift-of-test-plan", plugin=[str(file)], grid=["drift-of-test-plan.pace=0.1,0.2"]))
    assert [cells[0].options["method"][1]["pace"] for cells in found.searches[0].tuning.values()] == [0.1, 0.2]


def test_fingerprints_are_asked_with_the_options_of_the_run():
    seen = []

    def fingerprints(config):
        seen.append(config)
        return FINGERPRINTS

    question = asked(models="demo:glyphnet,timm:resnet18", image_size="32")
    expand(question, read_shape(question), fingerprints)
    assert {(config.model, config.image_size) for config in seen} == {("demo:glyphnet", 32), ("timm:resnet18", 32)}
    assert all(dataclasses.is_dataclass(config) for config in seen)
