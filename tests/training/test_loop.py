"""The training loop: what it computes, at which rates, and what it tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_runs import (
    LIVE_BATCHNORM,
    METHODS,
    OF_THE_JOINT_BATCH,
    OPTIONS,
    assert_same_run,
    assert_same_tensors,
    each,
    options_on_glyphnet,
)

from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.models.classifier import Classifier
from holdfast.models.load import load_pretrained
from holdfast.run import Run
from holdfast.training.events import Event, RunStarted, StepDone
from holdfast.training.watch import FiniteWatch

Fit = Callable[..., Run]

GLYPHNET = {**OPTIONS, "model": "demo:glyphnet", "image_size": None}


def bare_loop(
    images: Path, memory_format: torch.memory_format, *, seed: int, epochs: int, batch_size: int, lr: float
) -> dict[str, torch.Tensor]:
    """Fine-tuning as anyone would write it, on the same batches and from the same head."""
    pretrained = load_pretrained("demo:glyphnet")
    net, data = pretrained.net, load_data(FitConfig(data=str(images), batch_size=batch_size), pretrained.input)
    Classifier(net, pretrained.head_name).reset_head(len(data.classes), seed=seed)
    net.to(memory_format=memory_format)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1], gamma=0.1)
    for epoch in range(epochs):
        net.train()
        for batch in data.train_batches(epoch=epoch, seed=seed, batch_size=batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(batch.inputs), batch.labels).backward()
            optimizer.step()
        schedule.step()
    return net.state_dict()


@pytest.mark.parametrize(("channels_last", "memory_format"), [("off", torch.contiguous_format), ("on", torch.channels_last)])
def test_plain_fine_tuning_is_a_bare_loop_bit_for_bit(
    channels_last: str, memory_format: torch.memory_format, fit: Fit, images: Path
) -> None:
    options = {"seed": 3, "epochs": 2, "batch_size": 6, "lr": 0.05}
    run = fit(**{**GLYPHNET, **options}, schedule="step", milestones=[1], gamma=0.1, select="last", channels_last=channels_last)
    assert_same_tensors(run.load_weights(), bare_loop(images, memory_format, **options))


# ---------------------------------------------------------------------------------------------------------------- history, rates


def rates(fit: Fit, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[dict[str, float]]:
    """The learning rate of each parameter group at each step."""
    seen: list[dict[str, float]] = []
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        real = kind.step

        def step(self: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            seen.append({group["name"]: group["lr"] for group in self.param_groups})
            return real(self, *args, **kwargs)

        monkeypatch.setattr(kind, "step", step)
    fit(**options)
    return seen


def test_constant_rates_of_backbone_and_head(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(fit, monkeypatch, schedule="constant", lr=0.02, head_lr=0.2)
    assert seen == [{"backbone": 0.02, "head": 0.2}] * 6


def test_step_schedule_falls_at_its_epochs(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(fit, monkeypatch, schedule="step", milestones=[1, 3], gamma=0.5, lr=0.08, epochs=4)
    assert [step["backbone"] for step in seen] == pytest.approx([0.08] * 3 + [0.04] * 6 + [0.02] * 3)


def test_cosine_schedule_with_warm_up(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(fit, monkeypatch, schedule="cosine", warmup_steps=2, lr=0.1, head_lr=1.0, optimizer="adamw")
    factors = [0.0, 0.5] + [math.cos(7 * math.pi / 16 * done / 4) for done in range(4)]
    assert [step["backbone"] for step in seen] == pytest.approx([0.1 * factor for factor in factors])
    assert [step["head"] for step in seen] == pytest.approx(factors)


def test_warm_up_goes_with_every_schedule(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    constant = rates(fit, monkeypatch, schedule="constant", warmup_steps=4, lr=0.1)
    assert [step["backbone"] for step in constant] == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1, 0.1])


def test_history_has_a_row_an_epoch_with_every_term(fit: Fit) -> None:
    events: list[Event] = []
    run = fit(method="adarand+l2-sp", listener=events.append)
    assert [(row["epoch"], row["step"]) for row in run.history] == [(1, 3), (2, 6)]
    columns = ["epoch", "step", "lr", "loss", "cross-entropy", "adarand", "l2-sp/backbone", "l2-sp/head", "train_accuracy"]
    assert list(run.history[0]) == [*columns, "adarand/intra", "adarand/inter", "val_accuracy", "val_loss", "seconds"]
    weights = {name: term["weight"] for name, term in run.result["terms"].items()}
    for row in run.history:
        assert row["loss"] == pytest.approx(sum(weight * row[name] for name, weight in weights.items()), rel=1e-5)
    assert [term["last"] for term in run.result["terms"].values()] == [run.history[-1][name] for name in weights]
    started = next(event for event in events if isinstance(event, RunStarted))
    assert (started.method, started.n_train, started.n_val, started.n_test) == ("adarand+l2-sp", 18, 9, 9)
    assert (started.total_epochs, started.steps_per_epoch, started.classes) == (2, 3, 3)


def test_the_loss_is_told_every_few_steps(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FiniteWatch, "EVERY", 2)
    events: list[Event] = []
    fit(listener=events.append)
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(step.epoch, step.step_in_epoch, step.steps_in_epoch) for step in steps] == [(e, s, 3) for e in (1, 2) for s in (1, 2, 3)]
    assert [step.loss is not None for step in steps] == [False, True, False, True, False, True]


# -------------------------------------------------------------------------------------------------- accumulation, precision, modes


@pytest.mark.parametrize("method", each(sorted(METHODS.keys() - LIVE_BATCHNORM - OF_THE_JOINT_BATCH)))
def test_two_micro_batches_are_one_batch(method: str, fit: Fit) -> None:
    # Without BatchNorm in training mode and without dropout, where the two are equal.
    options = {**GLYPHNET, **options_on_glyphnet(method), "batchnorm": "frozen", "select": "last"}
    whole, parts = fit("whole", **options), fit("parts", **options, accumulate=2)
    torch.testing.assert_close(parts.load_weights(), whole.load_weights(), rtol=1e-4, atol=1e-5)
    for mine, other in zip(parts.history, whole.history, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-4)


def test_bfloat16_trains_in_lower_precision_and_keeps_float32_weights(fit: Fit) -> None:
    low, full = fit("low", method="adarand", precision="bf16"), fit("full", method="adarand")
    assert all(math.isfinite(row["loss"]) for row in low.history)
    assert low.history[0]["loss"] == pytest.approx(full.history[0]["loss"], rel=2e-2)
    assert low.history[0]["loss"] != full.history[0]["loss"]
    assert {tensor.dtype for tensor in low.load_weights().values()} == {torch.float32, torch.int64}


def test_frozen_batchnorm_keeps_its_statistics_and_trains_its_scale(fit: Fit) -> None:
    start = load_pretrained("demo:glyphnet").net.state_dict()
    frozen, live = (fit(mode, **GLYPHNET, batchnorm=mode, select="last").load_weights() for mode in ("frozen", "train"))
    assert torch.equal(frozen["stem.1.running_mean"], start["stem.1.running_mean"])
    assert not torch.equal(live["stem.1.running_mean"], start["stem.1.running_mean"])
    assert not torch.equal(frozen["stem.1.weight"], start["stem.1.weight"])


def test_deterministic_mode_gives_the_same_run(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run = fit("deterministic", method="adarand", deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert_same_run(run, fit("as usual", method="adarand"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_seed_decides_the_run(fit: Fit) -> None:
    first, again, other = (fit(name, seed=seed, method="randreg") for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert_same_run(first, again)
    assert not torch.equal(first.load_weights()["9.weight"], other.load_weights()["9.weight"])


@pytest.mark.slow
def test_compiled_training_is_close(fit: Fit) -> None:
    options = {**GLYPHNET, "batchnorm": "frozen", "method": "adarand", "epochs": 1}
    compiled, eager = fit("compiled", **options, compile=True), fit("eager", **options)
    torch.testing.assert_close(compiled.load_weights(), eager.load_weights(), rtol=1e-3, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- several methods


def test_composed_methods_add_up(fit: Fit) -> None:
    one = {name: fit(name, method=name, epochs=1).history[0] for name in ("plain", "adarand", "l2-sp")}
    both = fit("both", method="adarand+l2-sp", epochs=1).history[0]
    assert both["adarand"] == pytest.approx(one["adarand"]["adarand"], rel=0.1)
    assert both["l2-sp/head"] == pytest.approx(one["l2-sp"]["l2-sp/head"], rel=0.5)
    assert len({row["val_loss"] for row in (*one.values(), both)}) == 4


def test_a_method_of_weight_zero_is_plain_fine_tuning(fit: Fit) -> None:
    plain = fit("plain")
    zero = fit("zero", method=[{"name": "adarand", "weight": 0.0}, {"name": "l2-sp", "weight": 0.0, "head_weight": 0.0}])
    assert_same_tensors(zero.load_weights(), plain.load_weights())


@pytest.mark.usefixtures("own_catalog")
def test_a_method_from_a_plug_in_trains(fit: Fit) -> None:
    run = fit(method="class-mean", plugin=[str(Path(__file__).parents[1] / "plugins/class_mean.py")])
    assert run.result["terms"]["class-mean"]["last"] > 0
    assert run.history[-1]["loss"] == pytest.approx(run.history[-1]["cross-entropy"] + run.history[-1]["class-mean"], rel=1e-5)
