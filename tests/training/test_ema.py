"""The moving average of the weights: its formula, what it leaves alone, and what a run does with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.training.small_runs import assert_same_tensors
from torch import Tensor, nn

from holdfast.catalog import register
from holdfast.run import Run
from holdfast.terms import Regularizer
from holdfast.training.ema import WeightAverage, decay_at
from holdfast.training.loop import Trainer
from holdfast.types import Step, Update

Fit = Callable[..., Run]


class Tied(nn.Module):
    """A frozen layer, BatchNorm, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(3, 4).requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight


def disturb(net: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter and buffer anew, frozen ones included."""
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))


def test_the_decay_warms_up_and_stays_below_its_limit() -> None:
    assert [decay_at(update, 0.9) for update in (1, 2, 80, 81, 1000)] == pytest.approx([2 / 11, 3 / 12, 81 / 90, 0.9, 0.9])


def test_the_average_is_its_definition(seeded: Callable[[int], torch.Generator]) -> None:
    net, generator = nn.Linear(3, 2), seeded(1)
    average, expected = WeightAverage(net, 0.3), net.weight.detach().double()
    for update in range(1, 7):
        disturb(net, generator)
        average.update()
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * net.weight.detach().double()
    torch.testing.assert_close(average.weights()["weight"].double(), expected, rtol=1e-6, atol=1e-7)


def test_buffers_and_frozen_parameters_are_those_of_the_network_now(seeded: Callable[[int], torch.Generator]) -> None:
    net = Tied()
    average = WeightAverage(net, 0.5)
    disturb(net, seeded(2))
    average.update()
    disturb(net, seeded(3))
    found, own = average.weights(), net.state_dict()
    same = {name for name in own if torch.equal(found[name], own[name])}
    assert same == {"frozen.weight", "frozen.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert torch.equal(found["first.weight"], found["second.weight"])
    assert list(found) == list(own)


def test_the_network_has_the_average_inside_the_block_and_its_own_weights_after_it(seeded: Callable[[int], torch.Generator]) -> None:
    net = Tied()
    average = WeightAverage(net, 0.5)
    disturb(net, seeded(2))
    average.update()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def fail_inside() -> None:
        with average.applied():
            assert_same_tensors(dict(net.state_dict()), average.weights())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert_same_tensors(dict(net.state_dict()), before)


def test_a_low_precision_network_has_a_float32_average(seeded: Callable[[int], torch.Generator]) -> None:
    net = nn.Linear(3, 2, dtype=torch.bfloat16)
    average = WeightAverage(net, 0.999)
    disturb(net, seeded(1))
    average.update()
    assert average.state_dict()["weights"]["weight"].dtype is torch.float32
    assert average.weights()["weight"].dtype is torch.bfloat16


def test_a_restored_average_goes_on_as_it_would_have(seeded: Callable[[int], torch.Generator]) -> None:
    net, generator = nn.Linear(3, 2), seeded(1)
    first = WeightAverage(net, 0.9)
    disturb(net, generator)
    first.update()
    other = WeightAverage(net, 0.9)
    other.load_state_dict(first.state_dict())
    disturb(net, generator)
    for average in (first, other):
        average.update()
    assert_same_tensors(first.weights(), other.weights())


# ------------------------------------------------------------------------------------------------------------------------- runs


def weights_after_each_step(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The network before the first step and after each one."""
    kept: list[dict[str, Tensor]] = []
    update = Trainer.update

    def keep(self: Trainer) -> None:
        kept.append({name: tensor.clone() for name, tensor in self.job.classifier.net.state_dict().items()})

    def update_and_keep(self: Trainer, *args: object) -> None:
        if not kept:
            keep(self)
        update(self, *args)
        keep(self)

    monkeypatch.setattr(Trainer, "update", update_and_keep)
    return kept


def test_a_run_keeps_the_average_of_the_weights_after_each_step(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    after = weights_after_each_step(monkeypatch)
    run = fit(ema=0.4, select="last", lr=0.1)
    expected = {name: tensor.double() for name, tensor in after[0].items()}
    for update, weights in enumerate(after[1:], start=1):
        decay = min(0.4, (1 + update) / (10 + update))
        expected = {name: decay * expected[name] + (1 - decay) * weights[name].double() for name in expected}
    for name, tensor in run.load_weights().items():
        whole = expected[name] if name.rpartition(".")[2] in ("weight", "bias") else after[-1][name].double()
        torch.testing.assert_close(tensor.double(), whole, rtol=1e-5, atol=1e-6)


def test_averaging_leaves_training_alone(fit: Fit) -> None:
    plain, averaged = fit("plain", select="last"), fit("averaged", select="last", ema=0.5, select_weights="raw")
    assert_same_tensors(averaged.load_weights(), plain.load_weights())
    for with_average, without in zip(averaged.history, plain.history, strict=True):
        assert {key: cell for key, cell in with_average.items() if key in without and key != "seconds"} == {
            key: cell for key, cell in without.items() if key != "seconds"
        }


@pytest.mark.parametrize(("select_weights", "primary"), [("auto", "ema"), ("ema", "ema"), ("raw", "raw")])
@pytest.mark.parametrize("select", ["val-accuracy", "val-loss", "last"])
def test_both_forms_are_evaluated_and_the_chosen_one_comes_first(select: str, select_weights: str, primary: str, fit: Fit) -> None:
    run = fit(ema=0.5, epochs=3, lr=0.1, select=select, select_weights=select_weights)
    selections = run.result["selections"]
    assert (selections[0]["by"], selections[0]["weights"]) == (select, primary)
    pairs = [(entry["by"], entry["weights"]) for entry in selections]
    assert sorted(pairs) == sorted((by, form) for by in ("last", "val-accuracy", "val-loss") for form in ("raw", "ema"))
    for entry in selections:
        row, prefix = run.history[entry["epoch"] - 1], "ema_" if entry["weights"] == "ema" else ""
        assert (entry["val"]["accuracy"], entry["val"]["loss"]) == pytest.approx((row[f"{prefix}val_accuracy"], row[f"{prefix}val_loss"]))
    assert run.result["val"] == selections[0]["val"]
    assert [path.name for path in run.checkpoint_dir.iterdir()] == ["state.pt"]


def test_selection_by_the_average_is_by_its_own_columns(fit: Fit) -> None:
    run = fit(ema=0.9, epochs=4, lr=0.3, select="val-loss")
    for prefix, form in (("", "raw"), ("ema_", "ema")):
        best = min(run.history, key=lambda row: row[f"{prefix}val_loss"])["epoch"]
        assert [entry["epoch"] for entry in run.result["selections"] if (entry["by"], entry["weights"]) == ("val-loss", form)] == [best]
    assert any(row["val_loss"] != row["ema_val_loss"] for row in run.history)


def test_without_averaging_there_is_no_second_form(fit: Fit) -> None:
    run = fit()
    assert {entry["weights"] for entry in run.result["selections"]} == {"raw"}
    assert not any("ema" in column for column in run.history[0])


@pytest.mark.usefixtures("own_catalog")
def test_what_a_method_makes_of_the_weights_after_a_step_is_averaged(fit: Fit) -> None:
    @register("pin", summary="sets the head's bias after each step")
    class Pin(Regularizer):
        def penalty(self, step: Step) -> Tensor:
            return step.logits.square().mean()

        def after_step(self, update: Update) -> None:
            update.model.get_submodule("9").bias.fill_(2.0)

    run = fit(method="pin", ema=0.0, select="last")
    assert run.load_weights()["9.bias"].tolist() == [2.0] * 3
