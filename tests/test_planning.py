"""What a plan says of a run, against the run itself and against sums by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import _settings_of_torch, fit, images
from tests.training.small_runs import CLASSES, OPTIONS

import holdfast
from holdfast import planning
from holdfast.errors import ConfigError, RunError
from holdfast.planning import Plan
from holdfast.training.events import Event, RunStarted
from holdfast.training.rehearsal import Rehearsal

__all__ = ["_settings_of_torch", "fit", "images"]

GLYPHNET = {**OPTIONS, "model": "demo:glyphnet", "image_size": None}

MEASURED = Rehearsal(
    setup_seconds=7.0,
    first_step_seconds=5.0,
    step_seconds=2.0,
    steps=4,
    evaluation_seconds=0.5,
    stored={"weights": 100, "gradients": 90, "optimizer": 80, "average": 0, "methods": 20, "reference": 60, "images": 1000},
    peak_memory_mib=512.0,
)


@pytest.fixture
def by_hand(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """A plan from made-up measurements: 18 examples to train on in 3 steps an epoch, 9 in val, 9 in test, two epochs."""
    monkeypatch.setattr(planning, "rehearse", lambda job: MEASURED)
    return lambda **options: holdfast.plan(images, **{**OPTIONS, **options}, out=tmp_path / "run")


def test_sizes_are_those_of_the_run(fit: Callable[..., Any], images: Path, tmp_path: Path) -> None:
    plan = holdfast.plan(images, **OPTIONS, method="adarand", freeze="0", out=tmp_path / "plan")
    events: list[Event] = []
    run = fit(method="adarand", freeze="0", listener=events.append)
    started = events[0]
    assert isinstance(started, RunStarted)
    assert plan.classes == CLASSES
    assert (plan.n_train, plan.n_val, plan.n_test) == (started.n_train, started.n_val, started.n_test)
    assert (plan.steps_per_epoch, plan.total_steps) == (started.steps_per_epoch, run.result["cost"]["steps"])
    assert plan.trained_parameters == started.parameters
    assert plan.trained_parameters + plan.frozen_parameters == run.result["model"]["parameters"]
    assert (plan.device, plan.ranks, plan.batch_size, plan.config.epochs) == ("cpu", 1, 6, 2)


def test_time_adds_up(by_hand: Callable[..., Plan]) -> None:
    time = by_hand().time
    assert (time.step, time.timed_steps) == (2.0, 4)
    assert time.setup == 7 + (5 - 2)
    assert time.epoch == 3 * 2 + 9 * 0.5  # steps, then val
    assert time.end == 18 * 0.5 + 3 * (9 + 9) * 0.5  # train, then val and test for last, best accuracy, best loss
    assert time.total == time.setup + 2 * time.epoch + time.end


def test_time_counts_averaged_weights_and_a_tracked_test_split(by_hand: Callable[..., Plan]) -> None:
    time = by_hand(ema=0.9, track="test").time
    assert time.epoch == 3 * 2 + 2 * (9 + 9) * 0.5
    assert time.end == 18 * 0.5 + 2 * 4 * (9 + 9) * 0.5
    assert by_hand(select="last").time.end == by_hand().time.end  # the best epochs are known whatever is selected


def test_time_counts_tracked_features(by_hand: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100, 10))
    monkeypatch.setattr(planning.time, "perf_counter", lambda: next(clock))
    measured: list[tuple[int, ...]] = []
    monkeypatch.setattr(planning, "measure_features", lambda features, labels, logits: measured.append((*features.shape, *logits.shape)))
    monkeypatch.setattr(planning, "MOST_EXAMPLES", 10)
    time = by_hand(track="features").time
    assert measured == [(10, 8, 10, 3)]
    assert time.epoch == 3 * 2 + 9 * 0.5 + 10 * 0.5 + 10
    assert time.setup == 7 + 3 + 10 * 0.5 + 10


def test_memory_and_disk_add_up(by_hand: Callable[..., Plan]) -> None:
    plan = by_hand()
    assert plan.memory.peak == 512.0
    assert plan.memory.stored == {name: size / 2**20 for name, size in MEASURED.stored.items()}
    predictions, checkpoint, reference = 18 * 3 * 4, 100 + 80 + 20, 60  # code of one's own may change, so its weights are stored
    assert plan.disk.finished * 2**20 == reference + checkpoint + 100 + predictions
    assert plan.disk.training * 2**20 == reference + 2 * checkpoint + 3 * 100


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "method": "adarand", "store_reference": "always"}], ids=["plain", "much"])
def test_the_finished_run_takes_the_space_that_was_planned(options: dict[str, Any], images: Path, tmp_path: Path) -> None:
    plan = holdfast.plan(images, **GLYPHNET, **options, out=tmp_path / "run")
    run = holdfast.fit(images, **GLYPHNET, **options, out=tmp_path / "run")
    used = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file()) / 2**20
    assert plan.disk.finished == pytest.approx(used, rel=0.1)


def test_a_plan_is_refused_as_the_run_would_be(fit: Callable[..., Any], images: Path, tmp_path: Path) -> None:
    run = fit()
    with pytest.raises(RunError, match="holds a run already"):
        holdfast.plan(images, **OPTIONS, out=run.path)
    with pytest.raises(ConfigError, match=r"plan\(out=\.\.\.\)|fit\(out=\.\.\.\)"):
        holdfast.plan(images, **OPTIONS)
    with pytest.raises(ConfigError, match="--warmup-steps 7: longer than the run"):
        holdfast.plan(images, **OPTIONS, warmup_steps=7, out=tmp_path / "new")


def test_a_yaml_file_can_be_planned(images: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("model: demo:glyphnet\nepochs: 5\ndevice: cpu\n")
    plan = holdfast.plan(images, config=tmp_path / "run.yaml", batch_size=6, out=tmp_path / "run")
    assert (plan.config.epochs, plan.total_steps) == (5, 15)
