"""One resolver for three doors: which layer wins, what each door says of a mistake, and that YAML repeats a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from holdfast.catalog import METHODS
from holdfast.config.layers import command_line, from_yaml, keywords
from holdfast.config.load import config_hash, config_to_yaml_dict, machine_options, resolve
from holdfast.config.schema import RELEVANT_FIELDS, FitConfig
from holdfast.config.yaml_file import yaml_layer
from holdfast.errors import ConfigError

NEEDED = {"data": "cars/", "model": "timm:resnet18", "out": "runs/a"}


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


def typed(**options):
    """What ``holdfast fit`` with these options resolves to."""
    return resolve([command_line({**NEEDED, **options})])


def test_defaults_are_those_of_the_dataclass():
    config = typed()
    untouched = {field.name for field in dataclasses.fields(FitConfig)} - {*NEEDED, "method"}
    assert {name: getattr(config, name) for name in untouched} == {name: getattr(FitConfig(), name) for name in untouched}


@pytest.mark.parametrize(
    ("layers", "epochs"),
    [
        ([], 30),
        ([{"preset": "paper"}], 200),
        ([{"preset": "paper", "epochs": 170}], 170),
        ([{"preset": "paper", "epochs": 170}, {"epochs": "180"}], 180),
        ([{"epochs": 170}, {"preset": "paper"}], 170),
    ],
    ids=["default", "preset", "YAML over preset", "command line over YAML", "YAML over a preset of the command line"],
)
def test_later_layers_win(layers, epochs):
    yaml_values, typed_values = [*layers, {}, {}][:2]
    config = resolve([from_yaml("run.yaml", yaml_values), command_line({**NEEDED, **typed_values})])
    assert config.epochs == epochs


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("lr", "1e-3", 0.001),
        ("lr", ".5", 0.5),
        ("lr", "1", 1.0),
        ("epochs", "7", 7),
        ("seed", "010", 10),
        ("milestones", "3, 9", [3, 9]),
        ("freeze", "stem, blocks.[0-5]", ["stem", "blocks.[0-5]"]),
        ("skip_bad", "true", True),
        ("skip_bad", "Yes", True),
        ("flip", "no", False),
        ("head_lr", "0.1", 0.1),
        ("head_lr", "none", None),
        ("shots", "5", 5),
        ("test_split", "123", "123"),
        ("select", "last", "last"),
        ("weights", "random", "random"),
        ("device", "cuda:1", "cuda:1"),
    ],
)
def test_text_of_the_command_line_takes_the_type_of_its_field(key, text, value):
    schedule = {"schedule": "step"} if key == "milestones" else {}
    parsed = getattr(typed(**{key: text}, **schedule), key)
    assert parsed == value
    assert type(parsed) is type(value)


def test_python_values_of_other_libraries_are_taken():
    config = resolve(
        [keywords({**NEEDED, "data": Path("cars"), "lr": np.float32(0.5), "epochs": np.int64(3), "milestones": (1, 2), "schedule": "step"})]
    )
    assert (config.data, config.lr, config.epochs, config.milestones) == ("cars", 0.5, 3, [1, 2])
    assert (type(config.lr), type(config.epochs)) == (float, int)


def test_the_caller_keeps_what_was_passed():
    given = {**NEEDED, "milestones": ["9", "18"], "schedule": "step", "method": [{"name": "adarand", "alpha": "0.3"}]}
    resolve([keywords(given)])
    assert given["milestones"] == ["9", "18"]
    assert given["method"] == [{"name": "adarand", "alpha": "0.3"}]


DOORS = {
    "command line": command_line,
    "YAML": lambda values: from_yaml("run.yaml", values),
    "Python": keywords,
}

MISTAKES = [
    ("command line", {"lr": "abc"}, "--lr: expected a number, got 'abc'."),
    ("YAML", {"lr": "abc"}, "run.yaml: lr: expected a number, got 'abc'."),
    ("Python", {"lr": "abc"}, "fit(lr=...): expected a number, got 'abc'."),
    ("command line", {"lr": "none"}, "--lr: expected a number, got 'none'."),
    ("YAML", {"lr": None}, "run.yaml: lr: expected a number, got nothing."),
    ("YAML", {"lr": True}, "run.yaml: lr: expected a number, got True."),
    ("YAML", {"lr": [0.1]}, "run.yaml: lr: expected a number, got [0.1]."),
    ("command line", {"lr": "nan"}, "--lr: expected a number of at least 0, got nan."),
    ("command line", {"lr": "inf"}, "--lr: expected a number of at least 0, got inf."),
    ("command line", {"lr": "-1"}, "--lr: expected a number of at least 0, got -1.0."),
    ("command line", {"epochs": "1:30"}, "--epochs: expected a whole number, got '1:30'."),
    ("YAML", {"epochs": 2.5}, "run.yaml: epochs: expected a whole number, got 2.5."),
    ("command line", {"batch_size": "0"}, "--batch-size: expected a whole number of at least 1, got 0."),
    ("command line", {"val_fraction": "1.5"}, "--val-fraction: expected a number between 0 and 0.9, got 1.5."),
    ("command line", {"skip_bad": "maybe"}, "--skip-bad: expected true or false, got 'maybe'."),
    (
        "command line",
        {"select": "val-acuracy"},
        "--select: expected one of val-accuracy, val-loss, val-corrected, last, got 'val-acuracy'. Did you mean 'val-accuracy'?",
    ),
    ("command line", {"milestones": "9,x"}, "--milestones: expected whole numbers such as 9,18,24, got '9,x'."),
    ("YAML", {"milestones": [0]}, "run.yaml: milestones: expected a whole number of at least 1, got 0."),
    ("YAML", {"test_split": 2}, 'run.yaml: test_split: expected a text, got 2. Write it in quotes: "2".'),
    ("Python", {"plugin": 3.5}, "fit(plugin=...): expected a file name, or a list of them, got 3.5."),
    ("command line", {"epoch": "5"}, "--epoch: unknown option. Did you mean --epochs?"),
    ("YAML", {"lrr": 1}, "run.yaml: unknown key 'lrr'. Did you mean 'lr'?"),
    ("YAML", {"val-fraction": 0.1}, "run.yaml: unknown key 'val-fraction'. Did you mean 'val_fraction'?"),
    ("Python", {"epoch": 5}, "fit(epoch=...): unknown option. Did you mean 'epochs'?"),
    ("YAML", {"zzz": 1}, "run.yaml: unknown key 'zzz'. Type 'holdfast fit --help' for all of them."),
    ("command line", {"device": "gpu"}, "--device: expected auto, cpu, cuda or cuda:N, got 'gpu'."),
    ("command line", {"schedule": "step"}, "--schedule step: needs --milestones, the epochs at which the rate falls, such as 9,18,24."),
    ("command line", {"milestones": "9"}, "--milestones 9: only --schedule step uses milestones, and it is cosine"),
    (
        "command line",
        {"schedule": "step", "milestones": "9,40"},
        "--milestones 9,40: epoch 40 is never reached with --epochs 30; choose milestones below it.",
    ),
    ("command line", {"schedule": "step", "milestones": "9,30"}, "epoch 30 is never reached with --epochs 30"),
    ("command line", {"schedule": "step", "milestones": "18,9"}, "--milestones 18,9: expected increasing epochs"),
    ("command line", {"schedule": "step", "milestones": "9,9"}, "--milestones 9,9: expected increasing epochs"),
    ("command line", {"warmup_steps": "5", "warmup_epochs": "1"}, "--warmup-steps 5 and --warmup-epochs 1: give one of them."),
    ("YAML", {"warmup_epochs": 31}, "run.yaml: warmup_epochs 31: longer than the run, run.yaml: epochs 30; choose"),
    ("command line", {"warmup": "cosine"}, "--warmup cosine: there is no warm-up; say how long it is with --warmup-steps or"),
    ("command line", {"warmup_start": "0.1"}, "--warmup-start 0.1: there is no warm-up; say how long it is with --warmup-steps"),
    ("command line", {"warmup": "constant", "warmup_epochs": "2"}, "--warmup constant: holds the rate at 0 during the warm-up; say"),
    ("command line", {"head_lr": "0.1", "head_lr_factor": "10"}, "--head-lr 0.1 and --head-lr-factor 10: both set the head's rate"),
    ("command line", {"select_weights": "ema"}, "--select-weights ema: there is no average; give its decay, such as --ema 0.999."),
    ("Python", {"select": "last", "patience": 3}, "fit(patience=...) 3: needs a criterion, and fit(select=...) is last; write"),
    ("command line", {"preset": "paper", "epochs": "100"}, "milestones of preset 'paper' 60,120,160: epoch 160 is never reached"),
    (
        "command line",
        {"batch_size": "10", "accumulate": "3"},
        "--batch-size 10: not divisible by --accumulate 3; the nearest that is: 9.",
    ),
    ("command line", {"batch_size": "1", "accumulate": "4"}, "the nearest that is: 4."),
    ("command line", {"model": "resnet50"}, "--model 'resnet50': say where the network comes from, such as timm:resnet50"),
    ("command line", {"model": "tim:resnet50"}, "--model 'tim:resnet50': unknown kind of model 'tim'. Did you mean 'timm'?"),
    ("command line", {"model": "hf:"}, "--model 'hf:': expected the form hf:FOLDER."),
    ("command line", {"model": "timm:vit", "max_length": "9"}, "--max-length 9: --model timm:vit reads images, which have no tokens"),
    ("command line", {"model": "open_clip:RN50"}, "--model 'open_clip:RN50': networks of open_clip cannot be loaded in this version"),
    ("command line", {"model": "timm:"}, "--model 'timm:': expected the form timm:resnet50."),
    ("command line", {"model": "python:mine"}, "--model 'python:mine': expected the form python:my_models:build."),
    ("command line", {"model": "demo:glyfnet"}, "--model 'demo:glyfnet': unknown model 'glyfnet'. Did you mean 'glyphnet'?"),
    ("command line", {"data": "demo:digit"}, "DATA 'demo:digit': unknown dataset 'digit'. Did you mean 'digits'?"),
    ("command line", {"preset": "papr"}, "--preset: expected one of none, paper, ju2022, got 'papr'. Did you mean 'paper'?"),
]


@pytest.mark.parametrize(("door", "values", "sentence"), MISTAKES)
def test_a_mistake_is_told_in_the_words_of_its_door(door, values, sentence):
    with pytest.raises(ConfigError) as caught:
        resolve([DOORS[door]({**NEEDED, **values})])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misfit_names_each_option_as_it_was_typed():
    with pytest.raises(ConfigError, match=r"^run\.yaml: batch_size 10: not divisible by --accumulate 3"):
        resolve([from_yaml("run.yaml", {"batch_size": 10}), command_line({**NEEDED, "accumulate": "3"})])


def test_a_wrong_value_is_found_although_a_later_layer_overrides_it():
    with pytest.raises(ConfigError, match=r"^run\.yaml: lr: expected a number"):
        resolve([from_yaml("run.yaml", {"lr": "fast"}), command_line({**NEEDED, "lr": "0.1"})])


@pytest.mark.parametrize(
    ("missing", "beginning"),
    [
        (("data",), "DATA is missing; for example: holdfast fit "),
        (("model", "out"), "--model and --out are missing; for example: holdfast fit "),
        (("data", "model", "out"), "DATA, --model and --out are missing; for example: holdfast fit "),
    ],
)
def test_missing_options_are_told_together_with_a_complete_call(missing, beginning):
    with pytest.raises(ConfigError) as caught:
        resolve([command_line({key: value for key, value in NEEDED.items() if key not in missing})])
    assert str(caught.value).startswith(beginning)


def test_python_is_shown_a_call_in_python():
    with pytest.raises(ConfigError, match=r"^fit\(model=\.\.\.\) is missing; for example: holdfast\.fit\("):
        resolve([keywords({"data": "cars", "out": "a"})])


@pytest.mark.parametrize(
    ("environment", "options", "sentence"),
    [
        ({"WORLD_SIZE": "4"}, {"batch_size": "10"}, "--batch-size 10: not divisible by 4 ranks; the nearest that is: 8."),
        (
            {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            {"batch_size": "10", "accumulate": "2"},
            "--batch-size 10: not divisible by 2 ranks x --accumulate 2; the nearest that is: 8.",
        ),
        (
            {},
            {"devices": "4"},
            "--devices 4: found 1 rank(s) on this machine, which holdfast never starts; type torchrun --nproc-per-node 4",
        ),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, {"nodes": "3"}, "--nodes 3: found 2 machine(s)"),
        ({}, {"strategy": "fsdp"}, "--strategy fsdp: this is one rank, and nobody is there to share the weights with; type torchrun "),
        ({"WORLD_SIZE": "1"}, {"strategy": "fsdp"}, "or leave the option out."),
        ({"WORLD_SIZE": "2"}, {"strategy": "fsdp", "compile": "true"}, "--strategy fsdp: does not go with --compile; leave it out, or"),
        ({"WORLD_SIZE": "2"}, {"strategy": "fsdp", "precision": "fp16"}, "does not go with --precision fp16; leave it out"),
        ({"WORLD_SIZE": "two"}, {}, "the environment variable WORLD_SIZE must be a whole number of at least 1, got 'two'"),
    ],
)
def test_ranks_are_compared_with_what_was_started(monkeypatch, environment, options, sentence):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        typed(**options)
    assert sentence in str(caught.value)


def test_ranks_that_are_as_expected_pass(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert typed(devices="4", nodes="2", batch_size="64", accumulate="2").devices == 4


ROUND_TRIPS = [
    {},
    {"method": "adarand+l2-sp", "method.adarand.alpha": "0.3", "method.adarand.intra": "false"},
    {"preset": "paper"},
    {"preset": "paper", "schedule": "cosine"},
    {"preset": "paper", "model": "timm:vit_base_patch16_224"},
    {"schedule": "step", "milestones": "9,18", "head_lr": "0.1", "shots": "3", "weights": "random", "lr": "3e-5"},
    {"skip_bad": "true", "flip": "false", "train_list": "liste ü.txt", "device": "cuda:1", "workers": "0", "checkpoint_minutes": "0"},
    {"track": "features,test", "tracker": "csv"},
]


@pytest.mark.parametrize("options", ROUND_TRIPS)
def test_the_yaml_of_a_run_repeats_it(tmp_path, options):
    config = typed(**options)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**config_to_yaml_dict(config), "versions": {"torch": "2.15"}}), encoding="utf-8")
    assert resolve([yaml_layer(str(file)), command_line({})]) == config
    assert set(config_to_yaml_dict(config)) == {field.name for field in dataclasses.fields(FitConfig)}


def test_resuming_takes_options_of_the_machine_as_their_type():
    assert machine_options(command_line({"device": "cpu", "workers": "2", "threads": "1"})) == {"device": "cpu", "workers": 2, "threads": 1}


@pytest.mark.parametrize("key", ["lr", "epochs", "out", "method", "method.alpha", "data"])
def test_resuming_refuses_what_would_change_the_run(key):
    with pytest.raises(ConfigError, match=r"a resumed run keeps its options; only --device, .*--workers.* can be given beside it"):
        machine_options(command_line({key: "1"}))


def digest(**options):
    return config_hash(typed(**options), "data", "reference")


CHANGED = {
    "data": "elsewhere/", "model": "timm:resnet50", "out": "b", "method": "fnp", "plugin": [], "preset": "none", "train_list": "l.txt",
    "test_split": "val", "split": "paper", "augment": "none", "normalization": "half", "head": "fc", "batchnorm": "frozen",
    "optimizer": "adamw", "schedule": "constant", "select": "last", "precision": "bf16", "device": "cpu", "cache": "off",
    "store_reference": "always", "weights": "w.safetensors", "shots": "5", "image_size": "64", "head_dropout": "0.5", "head_lr": "0.2",
    "workers": "3", "threads": "2", "devices": "1", "nodes": "1", "flip": "false",
    "warmup": "cosine", "ema": "0.9", "select_weights": "ema",
    "train_fraction": "0.5", "sampling": "balanced", "class_weights": "balanced", "channels_last": "on", "strategy": "fsdp",
    "recipe": "lp-ft", "track": "test", "tracker": "csv", "labels": "as-given", "transition": "pair:0.2", "estimate_from": "run",
    "val_labels": "clean",
}  # fmt: skip


BESIDE = {
    "max_length": {"model": "hf:net"},
    "milestones": {"schedule": "step", "milestones": "9"},
    "warmup": {"warmup_steps": "3"},
    "warmup_start": {"warmup_steps": "3"},
    "select_weights": {"ema": "0.9"},
    "folds": {"folds": "3", "fold": "0"},
    "fold": {"folds": "3", "fold": "0"},
    "amsgrad": {"optimizer": "adamw"},
    "transition": {"method": "forward"},
    "estimate_from": {"labels": "robust"},
}
"""What an option needs to be allowed at all, itself included."""


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(FitConfig)])
def test_the_hash_follows_exactly_the_options_that_change_numbers(monkeypatch, key):
    if key == "strategy":
        monkeypatch.setenv("WORLD_SIZE", "2")
    default, beside = getattr(FitConfig(), key), BESIDE.get(key, {})
    value = CHANGED.get(key, str(not default).lower() if isinstance(default, bool) else "0.5" if isinstance(default, float) else "2")
    assert (digest(**{**beside, key: value}) != digest(**beside)) is (key in RELEVANT_FIELDS and key != "plugin")


def test_the_hash_follows_options_of_the_method_and_both_fingerprints():
    config = typed(method="adarand")
    hashes = {
        config_hash(config, "data", "reference"),
        config_hash(typed(**{"method": "adarand", "method.alpha": "0.4"}), "data", "reference"),
        config_hash(config, "other data", "reference"),
        config_hash(config, "data", "other reference"),
    }
    assert len(hashes) == 4
    assert all(len(value) == 64 for value in hashes)


def test_the_hash_does_not_see_how_the_same_run_was_typed():
    default = METHODS["adarand"].all_options["alpha"].default
    spelled_out = resolve([keywords({**NEEDED, "method": ["plain", {"alpha": default, "name": "adarand"}], "lr": 0.01, "epochs": 30})])
    assert config_hash(spelled_out, "d", "r") == config_hash(typed(method="adarand"), "d", "r")


def test_preset_and_its_options_written_out_have_one_hash():
    paper = typed(preset="paper")
    written = {key: value for key, value in config_to_yaml_dict(paper).items() if key != "preset"}
    assert config_hash(resolve([from_yaml("run.yaml", written)]), "d", "r") == config_hash(paper, "d", "r")
