"""What ``--dry-run`` prints."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from holdfast.cli.plan import print_plan
from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.errors import DataError
from holdfast.planning import Plan, PlannedDisk, PlannedMemory, PlannedTime
from holdfast.run import Run

FIT = ("fit", "cars/", "--model", "timm:resnet18", "--out", "my run", "--dry-run")

STORED = {"weights": 43.0, "gradients": 42.5, "optimizer": 42.5, "average": 0.0, "methods": 0.01, "reference": 44.0, "images": 1536.0}


@pytest.fixture
def plan():
    config = resolve([command_line({"data": "cars/", "model": "timm:resnet18", "method": "adarand+l2-sp", "out": "my run"})])
    return Plan(
        config=config,
        device="cpu",
        ranks=1,
        classes=("a", "b"),
        n_train=632,
        n_val=0,
        n_test=800,
        batch_size=64,
        steps_per_epoch=9,
        total_steps=270,
        trained_parameters=11_200_000,
        frozen_parameters=0,
        time=PlannedTime(setup=3.0, step=0.11, timed_steps=5, epoch=6.0, end=4.0, total=187.0),
        memory=PlannedMemory(812.4, STORED),
        disk=PlannedDisk(180.2, 2048.0),
    )


def printed(plan, capsys):
    print_plan(plan)
    return " ".join(capsys.readouterr().out.split())


def test_the_plan_says_data_network_method_steps_time_memory_and_disk(plan, capsys):
    text = printed(plan, capsys)
    assert text.startswith("Plan of 'my run': nothing has been written. Times and memory are estimates. Data cars/: 2 classes; ")
    for part in (
        "Data cars/: 2 classes; 632 train, no val, 800 test",
        "Network timm:resnet18: 11.2 M parameters trained Method",
        "adarand: weight 1; cost of a step beside plain: 1.01 (floor 1.00)",
        "l2-sp: weight 0.01; cost of a step beside plain: 1.05 (floor 1.03): one read",
        "30 epochs of 9 steps, 270 in all; 64 examples a step; sgd, lr 0.01, fp32 on cpu",
        "about 3 min 07 s: 3.0 s to set up, 110 ms a step (median of 5 steps), 6.0 s an epoch with its evaluation, up to 4.0 s to",
        "812 MiB at most of this process, all libraries included; stored all the time: weights 43 MiB, gradients 42 MiB, optimizer state",
        "decoded images 1.5 GiB",
        "180 MiB when finished, up to 2.0 GiB on the way",
    ):
        assert part in text
    assert text.endswith("Next: the same command without --dry-run.")
    assert "state of the methods" not in text
    assert "averaged" not in text
    assert "plain: cost" not in text


def test_the_plan_says_what_is_frozen_shared_by_ranks_and_may_end_early(plan, capsys):
    config = dataclasses.replace(plan.config, patience=3, method=[{"name": "plain"}])
    changed = dataclasses.replace(plan, config=config, ranks=2, device="cuda:0", frozen_parameters=30_000)
    text = printed(dataclasses.replace(changed, time=dataclasses.replace(plan.time, timed_steps=1)), capsys)
    for part in (
        "parameters trained, 30 k frozen",
        "270 in all, or until 3 epochs have brought nothing better; 64 examples a step over 2 ranks",
        "(one step was timed)",
        "812 MiB at most on cuda:0 on each rank;",
        "Method plain: cost of a step",
    ):
        assert part in text


def test_ranks_on_the_cpu_share_the_words_of_one(plan, capsys):
    assert "at most of this process, all libraries included on each rank;" in printed(
        dataclasses.replace(plan, device="cpu:0", ranks=2), capsys
    )


@pytest.mark.parametrize(
    ("estimate_from", "part"),
    [
        ("features", "Features of the pretrained network take about 0.4 s, which is not counted below"),
        ("run", "That takes a run of its own, about as long as this one, which is not counted below"),
    ],
)
def test_the_plan_says_that_wrong_labels_are_estimated_first_and_what_that_takes(plan, capsys, estimate_from, part):
    assert "estimated, unless" not in printed(plan, capsys)
    robust = dataclasses.replace(plan, config=dataclasses.replace(plan.config, labels="robust", estimate_from=estimate_from))
    text = printed(robust, capsys)
    assert "First how labels go wrong is estimated, unless --transition or --train-labels tells; then the method may be another" in text
    assert part in text


@pytest.fixture
def planned(called, plan):
    """The plans that were asked for, by their configuration."""
    asked = []

    def plan_config(config):
        asked.append(config)
        if config.epochs == 13:
            raise DataError("cars/: no such folder.")
        return plan

    sys.modules["holdfast.build"].plan_config = plan_config
    return asked


def test_a_dry_run_plans_and_does_not_train(holdfast, called, planned, tmp_path):
    answer = holdfast(*FIT, "--lr", "0.5")
    assert answer.status == 0
    assert "Plan of" in answer.out
    assert "timing a few steps" in answer.err
    assert (planned[0].lr, called.config) == (0.5, None)
    assert list(tmp_path.iterdir()) == []
    assert holdfast(*FIT, "--quiet").err == ""


def test_a_dry_run_says_that_the_run_would_be_refused(holdfast, planned):
    Run.create("my run", {})
    answer = holdfast(*FIT)
    assert (answer.status, answer.out, planned) == (2, "", [])
    assert "--out: 'my run' holds a run already" in answer.err
    answer = holdfast(*FIT[:4], "--out", "other", "--dry-run", "--epochs", "13")
    assert answer.status == 2
    assert "cars/: no such folder" in answer.err


def test_a_run_that_has_begun_cannot_be_planned(holdfast, planned):
    Run.create("runs/a", {})
    answer = holdfast("fit", "--resume", "runs/a", "--dry-run")
    assert (answer.status, planned) == (2, [])
    assert "--dry-run: only a run that has not begun can be planned; leave out --dry-run or --resume" in answer.err
