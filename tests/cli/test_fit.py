"""What is typed after ``holdfast fit`` reaches training, and what is shown at the end."""

from __future__ import annotations

import shlex
import sys

import pytest
from tests.cli.conftest import RESULT
from tests.cli.test_progress import START

from holdfast.run import Run

FIT = ("fit", "cars/", "--model", "timm:resnet18", "--out", "run")

CONTRACT = """
fit DEST/cars98a --train-list train_25.txt --model demo:mobilenetv1-025 --weights mobilenetv1_025_imagenet.safetensors
--method adarand --method.alpha 0.5 --epochs 30 --batch-size 64 --image-size 128 --optimizer sgd --lr 0.01 --schedule step
--milestones 9,18,24 --val-fraction 0 --select last --seed 0 --device cpu --deterministic --workers 2 --out adarand-0
"""


def test_every_option_of_the_contract_arrives(holdfast, called):
    assert holdfast(*shlex.split(CONTRACT)).status == 0
    config = called.config
    assert (config.data, config.train_list) == ("DEST/cars98a", "train_25.txt")
    assert (config.model, config.weights) == ("demo:mobilenetv1-025", "mobilenetv1_025_imagenet.safetensors")
    assert [entry["name"] for entry in config.method] == ["plain", "adarand"]
    assert config.method[1]["alpha"] == 0.5
    assert (config.epochs, config.batch_size, config.image_size, config.optimizer, config.lr) == (30, 64, 128, "sgd", 0.01)
    assert (config.schedule, config.milestones, config.val_fraction, config.select, config.seed) == ("step", [9, 18, 24], 0.0, "last", 0)
    assert (config.device, config.deterministic, config.workers, config.out) == ("cpu", True, 2, "adarand-0")


@pytest.mark.parametrize(
    ("words", "skip_bad"),
    [
        (("--skip-bad",), True),
        (("--no-skip-bad",), False),
        (("--skip-bad", "true"), True),
        (("--skip-bad", "false"), False),
        (("--skip-bad=no",), False),
        (("--skip-bad", "--no-skip-bad"), False),
    ],
)
def test_forms_of_a_switch(holdfast, called, words, skip_bad):
    assert holdfast(*FIT, *words).status == 0
    assert called.config.skip_bad is skip_bad


def test_a_switch_does_not_swallow_the_data_folder(holdfast, called):
    assert holdfast("fit", "--skip-bad", "cars/", *FIT[2:]).status == 0
    assert (called.config.data, called.config.skip_bad) == ("cars/", True)


def test_the_last_of_repeated_options_counts_and_plugins_add_up(holdfast, called, tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    assert holdfast(*FIT, "--lr", "1", "--lr=2", "--plugin", "a.py", "--plugin", "b.py").status == 0
    assert (called.config.lr, called.config.plugin) == (2.0, ["a.py", "b.py"])


def test_what_follows_two_dashes_is_no_option(holdfast, called):
    assert holdfast("fit", *FIT[2:], "--", "--cars").status == 0
    assert called.config.data == "--cars"


def test_the_command_line_wins_over_the_file(holdfast, called, tmp_path):
    (tmp_path / "run.yaml").write_text("data: birds/\nmodel: timm:resnet50\nlr: 0.5\nepochs: 3\nout: other\n")
    assert holdfast("fit", "cars/", "--config", "run.yaml", "--lr", "0.1").status == 0
    config = called.config
    assert (config.data, config.model, config.lr, config.epochs, config.out) == ("cars/", "timm:resnet50", 0.1, 3, "other")


def test_resume_passes_options_of_the_machine(holdfast, called):
    Run.create("runs/a", {})
    assert holdfast("fit", "--resume", "runs/a", "--device", "cpu", "--workers", "0").status == 0
    assert (called.resumed, called.overrides, called.config) == ("runs/a", {"device": "cpu", "workers": 0}, None)


def test_the_summary_says_result_selection_cost_and_what_to_type_next(holdfast, called):
    out = holdfast(*FIT, "--quiet").out
    lines = [line.split() for line in out.splitlines() if line]
    assert lines[0] == ["split", "n", "accuracy", "(95", "%", "interval)", "macro-F1", "NLL", "ECE"]
    assert lines[1] == ["val", "90", "80.0", "%", "(70.6", "to", "87.0)", "0.790", "0.700", "0.050"]
    assert lines[2] == ["test", "200", "76.5", "%", "(70.2", "to", "81.8)", "-", "0.810", "0.061"]
    assert "Weights of epoch 12, selected by val-accuracy.\n" in out
    assert "Cost: 3 min 12 s on cpu, 110 ms a step, 580 images a second, peak memory 812 MiB.\n" in out
    assert out.endswith("Next: holdfast audit run, or holdfast predict run image.jpg\n")


def test_the_summary_says_what_a_choice_by_test_is_worth(holdfast, called, monkeypatch):
    by_test = {"by": "best-by-test", "epoch": 7, "step": 90, "weights": "raw", "val": None, "test": {**RESULT["test"], "accuracy": 0.79}}
    assert "optimistic" not in holdfast(*FIT, "--quiet").out
    monkeypatch.setitem(RESULT, "selections", [*RESULT["selections"], by_test])
    out = holdfast(*FIT[:-1], "other", "--quiet").out
    assert "The test split was open during training: its best epoch, 7, reached 79.0 % (70.2 to 81.8), an optimistic number.\n" in out


def test_the_summary_compares_the_average_with_the_trained_weights(holdfast, called, monkeypatch):
    first = RESULT["selections"][0]
    raw = {**first, "epoch": 9, "val": RESULT["val"], "test": RESULT["test"]}
    monkeypatch.setitem(RESULT, "selections", [{**first, "weights": "ema"}, {**raw, "by": "last"}, raw])
    out = holdfast(*FIT, "--quiet").out
    assert "Averaged weights of epoch 12, selected by val-accuracy.\n" in out
    assert "For comparison, without averaging (epoch 9): val 80.0 % (70.6 to 87.0), test 76.5 % (70.2 to 81.8).\n" in out


def test_the_summary_says_where_training_ended_and_what_fp16_skipped(holdfast, called, monkeypatch):
    training = {"epochs": 17, "planned_epochs": 30, "stopped_early": True, "skipped_updates": 2}
    monkeypatch.setitem(RESULT, "training", training)
    out = holdfast(*FIT, "--quiet").out
    assert "Stopped early, after epoch 17 of 30: val-accuracy had not become better since epoch 12.\n" in out
    assert f"2 of {RESULT['cost']['steps']} updates were skipped while fp16 looked for its loss scale.\n" in out


def test_the_next_command_can_be_pasted(holdfast, called):
    assert "Next: holdfast audit 'my run', or holdfast predict 'my run' image.jpg\n" in holdfast(*FIT[:-1], "my run").out


def test_a_run_without_a_method_says_which_baseline_it_is_and_others_do_not(holdfast, called, monkeypatch, tmp_path):
    monkeypatch.setattr("holdfast.recipes.fit_config", sys.modules["holdfast.build"].fit_config)
    (tmp_path / "own.yaml").write_text("method: l2-sp\n")
    called.events = [START]
    sentence = "holdfast: no --method: plain fine-tuning, which no other baseline of 'holdfast list baselines' was shown to beat"
    assert sentence in holdfast(*FIT).err
    assert called.config.method == [{"name": "plain"}]
    chosen = (
        ("--method", "plain"),
        ("--method", "adarand", "--method.adarand.alpha", "0.3"),
        ("--config", str(tmp_path / "own.yaml")),
        ("--labels", "robust"),
        ("--recipe", "lp-ft"),
        ("--quiet",),
    )
    for number, words in enumerate(chosen):
        answer = holdfast(*FIT, *words, "--out", f"run-{number}")
        assert answer.status == 0
        assert "no --method" not in answer.err
