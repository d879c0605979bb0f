"""Loss scaling: what a skipped update leaves alone, on the CPU with torch's scaler and autocast, and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import assert_same_run
from torch import Tensor

import holdfast
from holdfast.catalog import register
from holdfast.errors import NonFiniteError
from holdfast.run import Run
from holdfast.terms import Regularizer
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.engine import Engine
from holdfast.training.events import Event, StepDone
from holdfast.training.loop import Trainer
from holdfast.training.watch import FiniteWatch
from holdfast.types import Step, Update

Fit = Callable[..., Run]


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """``precision="fp16"`` on the CPU, which the engine refuses since it is slow: real autocast and a real scaler."""
    real = Engine.__init__

    def engine(self: Engine, device: str = "auto", precision: str = "fp32", strategy: str = "ddp") -> None:
        real(self, device, "fp32", strategy)
        if precision == "fp32":
            return
        self._accelerator.state._mixed_precision = precision
        self._accelerator.native_amp = True
        self._accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    monkeypatch.setattr(Engine, "__init__", engine)


@pytest.fixture
def spike(own_catalog: None) -> tuple[str, list[str]]:
    """A method with a finite value and a gradient that overflows at some steps, and the list of what it was told."""
    told: list[str] = []

    @register("spike", summary="its gradient overflows at some steps")
    class Spike(Regularizer):
        def __init__(self, *, first: int = 1, last: int = 1) -> None:
            super().__init__()
            self.steps = range(first, last + 1)

        def penalty(self, step: Step) -> Tensor:
            if step.step not in self.steps:
                return step.logits.sum() * 0
            return (step.logits - step.logits.detach()).square().sum().sqrt()  # 0, with a gradient that is NaN

        def after_step(self, update: Update) -> None:
            told.append(f"applied {update.step}")

        def discard_step(self) -> None:
            told.append("discarded")

    return "spike", told


def states_after_steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """After each step: weights, average, prior of AdaRand."""
    kept: list[dict[str, Any]] = []
    update = Trainer.update

    def update_and_keep(self: Trainer, *args: Any) -> None:
        update(self, *args)
        tensors = {**self.job.classifier.net.state_dict(), **self.objective.terms.state_dict()}
        trained = {name: tensor.clone() for name, tensor in tensors.items() if isinstance(tensor, Tensor) and "running" not in name}
        trained = {name: tensor for name, tensor in trained.items() if "num_batches" not in name}
        average = self.candidates.average
        assert average is not None
        averages = {f"average of {name}": tensor.clone() for name, tensor in average.state_dict()["weights"].items()}
        kept.append({"tensors": trained | averages, "updates": average.updates, "clock": self.clock, "skipped": self.skipped})

    monkeypatch.setattr(Trainer, "update", update_and_keep)
    return kept


@pytest.mark.usefixtures("half")
def test_a_skipped_update_moves_the_clock_and_nothing_else(fit: Fit, spike: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    name, told = spike
    kept = states_after_steps(monkeypatch)
    monkeypatch.setattr(FiniteWatch, "EVERY", 1)  # the norm of the skipped update would stop the run at once
    run = fit(method=["adarand", name], precision="fp16", ema=0.5, clip_norm=1.0)
    before, skipped, after = kept[0], kept[1], kept[2]
    assert [key for key, tensor in before["tensors"].items() if not torch.equal(tensor, skipped["tensors"][key])] == []
    moved = {key for key, tensor in before["tensors"].items() if not torch.equal(tensor, after["tensors"][key])}
    assert {"9.weight", "average of 9.weight"} <= moved
    assert any(key.endswith("mean") for key in moved)  # the prior of AdaRand
    assert [state["updates"] for state in kept] == [1, 1, 2, 3, 4, 5]
    assert [state["clock"].step for state in kept] == [1, 2, 3, 4, 5, 6]
    assert told == ["applied 0", "discarded", *(f"applied {step}" for step in range(2, 6))]
    assert run.result["training"]["skipped_updates"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in run.load_weights().values())


@pytest.mark.usefixtures("half")
def test_the_norm_of_an_epoch_is_the_mean_over_its_applied_updates(fit: Fit, spike: tuple[str, list[str]]) -> None:
    spiked = fit("spiked", method=spike[0], precision="fp16", clip_norm=100.0, lr=0.0)
    calm = fit("calm", method={"name": spike[0], "first": 99, "last": 99}, precision="fp16", clip_norm=100.0, lr=0.0)
    assert spiked.history[1]["gradient_norm"] == pytest.approx(calm.history[1]["gradient_norm"])
    assert 0 < spiked.history[0]["gradient_norm"] < 100


@pytest.mark.usefixtures("half")
def test_the_norm_is_that_of_the_unscaled_gradient(fit: Fit) -> None:
    low, full = (fit(precision, precision=precision, clip_norm=100.0, lr=0.0) for precision in ("fp16", "fp32"))
    # The loss is scaled by 1024; dropout draws other masks in half precision.
    assert low.history[0]["gradient_norm"] == pytest.approx(full.history[0]["gradient_norm"], rel=0.2)


@pytest.mark.usefixtures("half")
def test_gradients_that_no_loss_scale_helps_stop_the_run(fit: Fit, spike: tuple[str, list[str]]) -> None:
    # From 2^10 the scale falls below 2^-14 with the 25th update in a row.
    with pytest.raises(NonFiniteError, match=r"^the gradients were not finite at step 25 and before, however small the loss scale"):
        fit(method={"name": spike[0], "first": 1, "last": 99}, precision="fp16", epochs=20)


@pytest.mark.usefixtures("half")
def test_a_resumed_run_has_its_loss_scale_and_count_of_skipped_updates(fit: Fit, spike: tuple[str, list[str]], tmp_path: Path) -> None:
    options = {"method": ["adarand", {"name": spike[0], "first": 0, "last": 1}], "precision": "fp16", "ema": 0.5, "clip_norm": 1.0}
    seen: list[Event] = []

    def crash(event: Event) -> None:
        seen.extend([event] * isinstance(event, StepDone))
        if len(seen) == 3:
            raise KeyError

    with pytest.raises(KeyError):
        fit(**options, checkpoint_minutes=0.0, listener=crash)
    resumed = holdfast.fit(resume=tmp_path / "run")
    undisturbed = fit("undisturbed", **options)
    assert resumed.result["training"]["skipped_updates"] == 2
    assert_same_run(resumed, undisturbed)
    scalers = [state["scaler"] for state in map(load_checkpoint, (resumed, undisturbed)) if state is not None]
    assert scalers[0] == scalers[1]
    assert scalers[0]["scale"] == 2.0**8  # halved by both skipped updates


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_on_a_gpu_skips_clips_averages_and_resumes_exactly(fit: Fit, spike: tuple[str, list[str]], tmp_path: Path) -> None:
    options = {"method": ["adarand", {"name": spike[0], "first": 1, "last": 2}], "precision": "fp16", "ema": 0.5, "clip_norm": 1.0}
    options |= {"device": "cuda", "deterministic": True}
    seen: list[Event] = []

    def crash(event: Event) -> None:
        seen.extend([event] * isinstance(event, StepDone))
        if len(seen) == 4:
            raise KeyError

    with pytest.raises(KeyError):
        fit(**options, checkpoint_minutes=0.0, listener=crash)
    resumed = holdfast.fit(resume=tmp_path / "run")
    assert resumed.result["training"]["skipped_updates"] >= 2
    assert_same_run(resumed, fit("undisturbed", **options))
