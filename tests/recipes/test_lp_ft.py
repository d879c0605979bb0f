"""``--recipe lp-ft``: phase two starts at the pretrained backbone with the probed head, whatever the method, and survives being killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipes.robust_runs import OPTIONS
from tests.training.small_runs import assert_same_run

import holdfast
from holdfast import build
from holdfast.errors import CheckpointError
from holdfast.models.head import set_head
from holdfast.recipes import lp_ft
from holdfast.recorded import start_of
from holdfast.run import Run
from holdfast.training import probe as probe_module

LP_FT: dict[str, Any] = {**OPTIONS, "method": "adarand+l2-sp", "recipe": "lp-ft", "shots": 8, "epochs": 2, "batch_size": 20, "lr": 0.03}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to look at; nobody changes it."""
    return holdfast.fit("demo:digits", out=tmp_path_factory.mktemp("lp-ft") / "run", **LP_FT)


def test_the_first_phase_is_a_finished_run_of_the_probe(finished: Run):
    probe = Run.open(finished.path / "probe")
    assert probe.finished
    assert probe.config["recipe"] == "linear-probe"
    assert [entry["name"] for entry in probe.config["method"]] == ["plain"]
    assert probe.splits["fingerprint"] == finished.splits["fingerprint"]


def test_the_second_phase_starts_at_the_pretrained_backbone_with_the_head_of_the_probe(finished: Run, tmp_path: Path):
    start, probe = start_of(finished).net.state_dict(), Run.open(finished.path / "probe").load_weights()
    assert all(torch.equal(start[name], probe[name]) for name in probe)
    # With a rate of 0 it stays there.
    still = holdfast.fit("demo:digits", out=tmp_path / "still", **LP_FT | {"lr": 0.0, "method": "plain", "batchnorm": "frozen"})
    assert all(torch.equal(tensor, probe[name]) for name, tensor in still.load_weights().items())
    assert still.result["val"]["accuracy"] == Run.open(still.path / "probe").result["val"]["accuracy"]


def test_what_a_method_takes_from_the_pretrained_network_is_that_of_the_second_phase_alone(tmp_path: Path):
    """Class means of AdaRand and the anchor of L2-SP do not know of the probe."""
    states = {}
    for recipe in ("full", "lp-ft"):
        run = holdfast.fit("demo:digits", out=tmp_path / recipe, **LP_FT | {"recipe": recipe, "lr": 0.0, "method": "adarand", "epochs": 1})
        states[recipe] = torch.load(run.path / "checkpoint" / "state.pt", weights_only=True)["terms"]
        assert run.reference["fingerprint"] == run.result["model"]["reference_fingerprint"]
    assert states["full"].keys() == states["lp-ft"].keys()
    before = {name: tensor for name, tensor in states["full"].items() if "prior" not in name and isinstance(tensor, torch.Tensor)}
    assert before
    for name, tensor in before.items():
        torch.testing.assert_close(states["lp-ft"][name], tensor)


@pytest.mark.parametrize(
    "method", ["core-tuning", "dac", *(pytest.param(name, marks=pytest.mark.slow) for name in ("stochnorm", "distance"))]
)
def test_heads_of_another_form_and_networks_that_methods_change_take_the_probe_too(method: str, tmp_path: Path):
    run = holdfast.fit("demo:digits", out=tmp_path / "run", **LP_FT | {"method": method, "epochs": 1, "lr": 0.0, "batchnorm": "train"})
    head, probe = start_of(run).head, Run.open(run.path / "probe").load_weights()
    assert torch.equal(head.weight, probe["fc.weight"])
    assert (head.bias is None) == (method == "core-tuning") == ("fc.bias" not in probe)


def test_outputs_beyond_the_classes_stay_as_they_were_drawn():
    head = torch.nn.Linear(3, 4)
    drawn = head.weight[2:].clone()
    set_head(head, {"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    assert torch.equal(head.weight[:2], torch.ones(2, 3))
    assert torch.equal(head.weight[2:], drawn)


class Killed(Exception):
    """In place of a signal."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param(lp_ft, "_both", marks=pytest.mark.slow, id="before the probe"),
        pytest.param(probe_module, "logistic_path", id="while solving"),
        pytest.param(build, "finish", marks=pytest.mark.slow, id="before the probe is written"),
        pytest.param(build, "probed_head", id="after the probe"),
        pytest.param(build, "Trainer", marks=pytest.mark.slow, id="before either is trained"),
    ],
)
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    place: Any, name: str, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(Killed):
            holdfast.fit("demo:digits", out=tmp_path / "run", **LP_FT)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), finished)


def test_a_run_that_was_killed_in_its_second_phase_does_not_solve_the_probe_again(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop_after_first(event: Any) -> None:
        if type(event).__name__ == "EpochDone" and event.total_epochs == 2:
            raise Killed

    with pytest.raises(Killed):
        holdfast.fit("demo:digits", out=tmp_path / "run", listener=stop_after_first, **LP_FT)
    monkeypatch.setattr(probe_module, "logistic_path", killed)
    assert_same_run(holdfast.fit(resume=tmp_path / "run"), finished)


def test_the_configuration_repeats_both_phases(finished: Run, tmp_path: Path):
    again = holdfast.fit(config=finished.path / "config.yaml", out=tmp_path / "again")
    assert_same_run(again, finished)
    assert Run.open(tmp_path / "again" / "probe").finished


def test_a_probe_that_is_another_than_the_run_began_with_is_refused(tmp_path: Path):
    run = holdfast.fit("demo:digits", out=tmp_path / "run", **LP_FT | {"epochs": 1, "method": "plain"})
    probe = Run.open(run.path / "probe")
    probe.save_model({name: tensor + 1 for name, tensor in probe.load_weights().items()})
    with pytest.raises(CheckpointError, match="this is not the linear probe that"):
        start_of(run)


def test_a_plan_is_that_of_the_second_phase_and_writes_nothing(tmp_path: Path):
    plan = holdfast.plan("demo:digits", out=tmp_path / "run", **LP_FT)
    assert plan.config.recipe == "lp-ft"
    assert plan.total_steps == 8
    assert not (tmp_path / "run").exists()
