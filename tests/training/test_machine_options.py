"""Options of the machine: another order in memory, or activations computed twice, and the same training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.training.small_runs import OPTIONS, assert_same_run, assert_same_tensors

import holdfast
from holdfast.build import load_model
from holdfast.config.values import typed_value
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.training.events import Event, StepDone

Fit = Callable[..., Run]
GLYPHNET: dict[str, Any] = {"model": "demo:glyphnet", "image_size": None, "select": "last"}


class Crash(Exception):
    """Stands for the end of the process."""


def crash_at(step: int) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise Crash

    return listen


def recorded(run: Run, key: str) -> object:
    return yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))[key]


def test_auto_is_recorded_as_what_it_meant_and_the_reference_stays_the_same(fit: Fit) -> None:
    runs = {setting: fit(setting, **GLYPHNET, channels_last=setting) for setting in ("auto", "on", "off")}
    assert [recorded(run, "channels_last") for run in runs.values()] == ["on", "on", "off"]
    assert len({run.reference["fingerprint"] for run in runs.values()}) == 1
    assert_same_run(runs["auto"], runs["on"])
    for name, value in runs["off"].load_weights().items():
        torch.testing.assert_close(runs["on"].load_weights()[name], value, rtol=1e-3, atol=1e-4)


def test_weights_of_a_run_are_stored_in_the_usual_order_and_load_into_either(fit: Fit) -> None:
    run = fit(**GLYPHNET, channels_last="on")
    assert all(value.is_contiguous() for value in run.load_weights().values())
    net = load_model(run.path)[0].net
    assert_same_tensors(net.state_dict(), run.load_weights())
    assert net.stem[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("method", ["l2-sp", "adarand"])
@pytest.mark.parametrize("options", [{"channels_last": "on"}, {"gradient_checkpointing": True, "channels_last": "off"}])
def test_a_run_resumes_exactly(options: dict[str, Any], method: str, fit: Fit, tmp_path: Path) -> None:
    options = {**GLYPHNET, **options, "method": method, "checkpoint_minutes": 0.0}
    with pytest.raises(Crash):
        fit("stopped", **options, listener=crash_at(4))
    assert_same_run(holdfast.fit(resume=tmp_path / "stopped"), fit("whole", **options))


@pytest.mark.parametrize("method", ["plain", "stochnorm", "adarand"])
def test_checkpointing_trains_to_the_same_weights_bit_for_bit(method: str, fit: Fit) -> None:
    runs = [fit(str(on), **GLYPHNET, method=method, gradient_checkpointing=on) for on in (False, True)]
    assert_same_tensors(*(run.load_weights() for run in runs))
    assert recorded(runs[1], "gradient_checkpointing") is True


def test_checkpointing_accumulates_as_without(fit: Fit) -> None:
    runs = [fit(str(on), **GLYPHNET, accumulate=3, gradient_checkpointing=on) for on in (False, True)]
    assert_same_tensors(*(run.load_weights() for run in runs))


def test_checkpointing_under_compile_needs_frozen_batchnorm(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--gradient-checkpointing: under --compile .* type --batchnorm frozen"):
        holdfast.fit(images, **{**OPTIONS, **GLYPHNET}, compile=True, gradient_checkpointing=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_yaml_reads_on_and_off_as_true_and_false_and_is_understood() -> None:
    assert [typed_value("channels_last", value, "x: channels_last") for value in (True, False, "auto")] == ["on", "off", "auto"]
    assert typed_value("cache", False, "x: cache") == "off"
    with pytest.raises(ConfigError, match="expected one of auto, memory, off, got True"):
        typed_value("cache", True, "x: cache")
