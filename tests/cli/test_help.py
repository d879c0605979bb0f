"""Help a newcomer can read, lists and explanations, none of which wait for torch."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time

import pytest

from holdfast.catalog import METHODS
from holdfast.cli.terminal import out, wrapped_command
from holdfast.config.schema import FitConfig

FIELDS = dataclasses.fields(FitConfig)


@pytest.fixture
def fit_help(holdfast):
    return holdfast("fit", "--help").out


@pytest.mark.parametrize("name", [field.name for field in FIELDS if field.name != "data"])
def test_every_field_is_an_option_in_the_help(fit_help, name):
    assert re.search(rf"^  --{name.replace('_', '-')}[ ,]", fit_help, re.MULTILINE)


def test_help_shows_texts_defaults_and_choices(fit_help):
    text = " ".join(fit_help.split())
    for field in FIELDS:
        assert " ".join(field.metadata["help"].split()) in text
    assert "[default: 0.01]" in text
    assert "[val-accuracy, val-loss, val-corrected, last; default: val-accuracy]" in text
    assert "--flip, --no-flip" in text


def test_help_is_grouped_and_ends_with_examples(fit_help):
    titles = ["Arguments", "Data", "Network", "Method", "Wrong labels", "Training", "Machine", "Output", "This command", "Examples"]
    lines = fit_help.splitlines()
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    assert len([line for line in lines[places[-1] :] if line.startswith("  holdfast fit")]) == 3


@pytest.mark.parametrize(
    "argv",
    [("fit", "--help"), ("--help",), ("list",), ("explain", "adarand"), ("predict", "--help"), ("audit", "--help"), ("report", "--help")]
    + [("labels", *command, "--help") for command in ((), ("inject",), ("estimate",), ("aggregate",), ("issues",))],
)
@pytest.mark.parametrize("width", [60, 100])
def test_pages_wrap_to_the_width_of_the_terminal(holdfast, monkeypatch, argv, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(out, "_width", None)  # what runs the tests may have set COLUMNS too, which is read once
    longest = max(holdfast(*argv).out.splitlines(), key=len)
    assert len(longest) <= width, longest


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_help_lists_the_verbs_there_are(holdfast, argv):
    answer = holdfast(*argv)
    assert answer.status == 0
    for verb in ("fit", "audit", "compare", "report", "predict", "labels", "list", "explain"):
        assert f"  {verb} " in answer.out
    for verb in ("pretrain", "export"):
        assert f"  {verb} " not in answer.out


def test_version_names_what_a_bug_report_needs(holdfast):
    assert holdfast("--version").out.startswith("holdfast ")
    assert "torch " in holdfast("--version").out


def test_list_methods_names_all_and_losses_only_task_losses(holdfast):
    methods, losses = holdfast("list", "methods").out, holdfast("list", "losses").out
    for name, record in METHODS.items():
        assert f"\n{name} " in methods
        assert (f"\n{name} " in losses) is (record.kind == "task loss")


def test_list_models_and_datasets_name_members(holdfast):
    assert "demo:glyphnet " in holdfast("list", "models").out
    assert "demo:digits " in holdfast("list", "datasets").out


def test_list_finds_networks_of_a_library_by_part_of_their_name(holdfast):
    answer = holdfast("list", "models", "torchvision", "mobilenet_v3")
    assert answer.out.split() == ["torchvision:mobilenet_v3_large", "torchvision:mobilenet_v3_small"]
    assert holdfast("list", "models", "torchvision", "resnet99").status == 2


@pytest.mark.parametrize("name", METHODS)
def test_explain_tells_everything_in_the_record(holdfast, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    text = " ".join(holdfast("explain", name).out.split())
    record = METHODS[name]
    told = [record.objective, record.needs, record.cost, record.good_for, record.caveats, *record.sources]
    for option in record.all_options.values():
        told += [f"--method.{option.name} ", option.help, option.source]
    for part in told:
        assert " ".join(part.split()) in text


@pytest.mark.usefixtures("own_catalog")
def test_explain_and_list_know_methods_of_a_plugin(holdfast, tmp_path):
    file = tmp_path / "pull.py"
    file.write_text(
        "from holdfast.catalog import register\n\n@register('pull-x', summary='pulls')\nclass Pull:\n"
        "    def __init__(self, *, strength: float = 2.0): ...\n    def penalty(self, step): ...\n"
    )
    assert "--method.strength" in holdfast("explain", "pull-x", "--plugin", str(file)).out
    assert "\npull-x " in holdfast("list", "methods", "--plugin", str(file)).out


def test_a_long_command_is_broken_so_that_it_can_be_pasted():
    command = "holdfast fit cars/ --model timm:resnet50 --method adarand --out runs/cars"
    wrapped = wrapped_command(command, 44)
    assert max(map(len, wrapped.splitlines())) <= 44
    assert wrapped.replace("\\\n", "").split() == command.split()


TORCH_FREE = [
    ("--help",),
    ("--version",),
    ("fit", "--help"),
    ("list",),
    ("explain", "adarand"),
    ("predict", "--help"),
    ("fit", "cars", "--epoch", "3"),
    ("fit", "cars", "--model", "timm:resnet50", "--out", "run", "--method", "adrand"),
    ("fit", "cars", "--model", "timm:resnet50", "--out", "run", "--batch-size", "0"),
    ("fit", "cars", "--model", "timm:resnet50", "--out", sys.executable),
    ("fit", "--resume", "nowhere"),
    ("predict", "nowhere", "a.png"),
    ("labels", "--help"),
    ("labels", "estimate", "--help"),
    ("labels", "inject", "birds.csv", "--rate", "1", "--out", "noisy.csv"),
    ("labels", "aggregate", "votes.csv", "--method", "weighted"),
    ("audit", "--help"),
    ("audit", "nowhere"),
    ("report", "--help"),
    ("report", "nowhere"),
    ("audit", "run", "--samples", "0"),
]


def test_help_lists_and_bad_options_need_no_torch():
    code = f"""
import sys
from holdfast.cli.main import main
for argv in {TORCH_FREE!r}:
    main(argv)
    assert 'torch' not in sys.modules, argv
import holdfast
assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argv", [("fit", "--help"), ("fit", "cars", "--lr", "abc"), ("audit", "--help")])
def test_an_answer_takes_less_than_a_second(argv):
    """The quickest of three: the machine may be busy, the imports may not."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "holdfast", *argv], capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
