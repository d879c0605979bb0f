"""Learning rates by layer, and parameters that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.training.small_runs import OPTIONS, assert_same_tensors
from tests.training.test_loop import rates

from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.freeze import freeze_parameters
from holdfast.models.load import load_pretrained
from holdfast.models.select import layer_depths
from holdfast.regularizers.co_tuning import CoTuning
from holdfast.run import Run
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.optim import learning_rate_factor, make_optimizer, warmup_steps

Fit = Callable[..., Run]

GLYPHNET = {**OPTIONS, "model": "demo:glyphnet", "image_size": None}


def glyphnet() -> Classifier:
    pretrained = load_pretrained("demo:glyphnet")
    return Classifier(pretrained.net, pretrained.head_name)


def rate_of_each(optimizer: torch.optim.Optimizer, classifier: Classifier) -> dict[str, float]:
    """The rate of every parameter that the optimizer has, by its name."""
    names = {id(parameter): name for name, parameter in classifier.net.named_parameters()}
    return {names[id(parameter)]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}


def test_each_layer_learns_slower_than_the_one_above_it() -> None:
    classifier = glyphnet()
    optimizer = make_optimizer(FitConfig(lr=0.1, layer_decay=0.5), classifier, torch.nn.ModuleList())
    depths = layer_depths(classifier.net, classifier.head_name)
    top = max(depths.values())
    expected = {name: 0.1 * 0.5 ** (top - depth) for name, depth in depths.items()}
    assert rate_of_each(optimizer, classifier) == pytest.approx(expected)
    assert len(set(expected.values())) == top + 1 > 2
    assert expected[f"{classifier.head_name}.weight"] == 0.1


@pytest.mark.parametrize(("options", "head"), [({}, 0.1), ({"head_lr": 0.7}, 0.7), ({"head_lr_factor": 5.0}, 0.5)])
@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_the_head_has_its_own_rate_and_terms_have_the_heads(options: dict[str, Any], head: float, layer_decay: float) -> None:
    classifier, term = glyphnet(), torch.nn.Linear(2, 2)
    optimizer = make_optimizer(FitConfig(lr=0.1, layer_decay=layer_decay, **options), classifier, term)
    by_name = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert (by_name["head"], by_name["terms"]) == pytest.approx((head, head))
    if layer_decay == 1:
        assert by_name == pytest.approx({"backbone": 0.1, "head": head, "terms": head})


def test_what_a_term_took_from_the_pretrained_network_learns_like_the_backbone() -> None:
    term = CoTuning()
    term.source_weight, term.source_bias = torch.nn.Parameter(torch.zeros(3, 2)), torch.nn.Parameter(torch.zeros(3))
    fresh = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(FitConfig(lr=0.1, head_lr=0.7), glyphnet(), torch.nn.ModuleList([term, fresh]))
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [rates[id(parameter)] for parameter in term.parameters()] == [0.1, 0.1]
    assert [rates[id(parameter)] for parameter in fresh.parameters()] == [0.7, 0.7]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)


def test_frozen_parameters_are_in_no_group() -> None:
    classifier = glyphnet()
    frozen = freeze_parameters(classifier, ["stem"])
    for layer_decay in (1.0, 0.5):
        optimizer = make_optimizer(FitConfig(layer_decay=layer_decay), classifier, torch.nn.ModuleList())
        found = set(rate_of_each(optimizer, classifier))
        assert found == {name for name, _ in classifier.net.named_parameters()} - frozen
        assert all(group["params"] for group in optimizer.param_groups)


def test_every_rate_follows_the_schedule(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(fit, monkeypatch, **GLYPHNET, lr=0.1, layer_decay=0.5, schedule="step", milestones=[1], gamma=0.1)
    assert len(seen[0]) > 3
    for name, first in seen[0].items():
        assert [step[name] for step in seen] == pytest.approx([first] * 3 + [first / 10] * 3)


def test_the_history_has_the_rate_of_the_top(fit: Fit) -> None:
    run = fit(**GLYPHNET, lr=0.1, layer_decay=0.5, head_lr_factor=3.0, schedule="constant")
    assert [row["lr"] for row in run.history] == [0.1, 0.1]


# --------------------------------------------------------------------------------------------------------------------- warm-up


@pytest.mark.parametrize(
    ("options", "steps"), [({}, 0), ({"warmup_steps": 7}, 7), ({"warmup_epochs": 0.5}, 6), ({"warmup_epochs": 0.01}, 1)]
)
def test_warm_up_in_steps_or_epochs(options: dict[str, Any], steps: int) -> None:
    assert warmup_steps(FitConfig(**options), 12) == steps


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"warmup_epochs": 1}, [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ({"warmup_epochs": 1, "warmup_start": 0.4}, [0.4, 0.6, 0.8, 1, 1, 1]),
        ({"warmup_steps": 2, "warmup": "constant", "warmup_start": 0.1}, [0.1, 0.1, 1, 1, 1, 1]),
        ({"warmup_steps": 4, "warmup": "cosine"}, [0, 0.1464466, 0.5, 0.8535534, 1, 1]),
    ],
)
def test_warm_up_of_a_run(options: dict[str, Any], factors: list[float], fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = rates(fit, monkeypatch, schedule="constant", lr=0.1, head_lr=1.0, **options)
    assert [step["head"] for step in seen] == pytest.approx(factors, abs=1e-6)
    assert [step["backbone"] for step in seen] == pytest.approx([0.1 * factor for factor in factors], abs=1e-7)


def test_the_cosine_begins_where_the_warm_up_ends_whatever_its_shape() -> None:
    shapes = [FitConfig(warmup_steps=10, warmup=shape, warmup_start=0.5) for shape in ("linear", "cosine", "constant")]
    after = [[learning_rate_factor(config, 40, 10)(step, 0) for step in range(10, 40)] for config in shapes]
    assert after[0] == after[1] == after[2] == [learning_rate_factor(FitConfig(), 30, 10)(step, 0) for step in range(30)]


def test_a_warm_up_longer_than_the_run_is_refused_before_anything_is_written(fit: Fit, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--warmup-steps 7: longer than the run, which has 6 steps \(2 epochs of 3\); choose a smaller"):
        fit(warmup_steps=7)
    assert not (tmp_path / "run").exists()
    fit(warmup_steps=6)


# -------------------------------------------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize("method", ["plain", "l2-sp", "adarand"])
def test_frozen_weights_and_their_statistics_stay_and_the_rest_moves(method: str, fit: Fit) -> None:
    start = load_pretrained("demo:glyphnet").net.state_dict()
    run = fit(**GLYPHNET, method=method, freeze=["stem"], optimizer="adamw", weight_decay=0.1, lr=0.01, select="last", ema=0.5)
    for form in ("raw", "ema"):
        state = load_checkpoint(run)
        assert state is not None
        weights = state["model"] if form == "raw" else run.load_weights()
        kept = {
            name
            for name in start
            if name in weights and start[name].shape == weights[name].shape and torch.equal(start[name], weights[name])
        }
        assert kept >= {name for name in start if name.startswith("stem.")}
        trained = {name for name, _ in glyphnet().net.named_parameters() if not name.startswith("stem.")}
        assert not kept & trained


def test_a_frozen_backbone_is_the_training_of_a_head(fit: Fit) -> None:
    run = fit(**GLYPHNET, freeze=["backbone"], batchnorm="frozen", select="last", clip_norm=1.0, layer_decay=0.5)
    start = load_pretrained("demo:glyphnet").net.state_dict()
    head = {
        name for name, tensor in run.load_weights().items() if tensor.shape != start[name].shape or not torch.equal(tensor, start[name])
    }
    assert head == {name for name, _ in glyphnet().head_parameters()}
    state = load_checkpoint(run)
    assert state is not None
    assert [group["name"] for group in state["optimizer"]["param_groups"]] == ["head"]


# ---------------------------------------------------------------------------------------------------------------- accumulation


def test_four_micro_batches_are_one_batch_with_everything_switched_on(fit: Fit) -> None:
    options = {**GLYPHNET, "batch_size": 8, "batchnorm": "frozen", "method": "adarand+l2-sp", "select": "last", "lr": 0.05}
    options |= {"ema": 0.5, "clip_norm": 0.5, "layer_decay": 0.7, "head_lr_factor": 3.0, "warmup_steps": 2, "warmup_start": 0.5}
    whole, parts = fit("whole", **options), fit("parts", **options, accumulate=4)
    assert whole.history[0]["gradient_norm"] > 0.5
    torch.testing.assert_close(parts.load_weights(), whole.load_weights(), rtol=1e-4, atol=1e-5)
    for mine, other in zip(parts.history, whole.history, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-4)
    with pytest.raises(AssertionError):  # the comparison can fail
        assert_same_tensors(whole.load_weights(), fit("other", **{**options, "clip_norm": None}).load_weights())
