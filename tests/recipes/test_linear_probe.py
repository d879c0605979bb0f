"""``--recipe linear-probe``: an ordinary run whose head is the best linear classifier on the pretrained features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.recipes.robust_runs import OPTIONS

import holdfast
from holdfast import build
from holdfast.cli.summary import print_summary
from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.training.logistic import DECAYS, logistic_path
from holdfast.training.probe import every_fifth

PROBE: dict[str, Any] = {**OPTIONS, "method": "plain", "recipe": "linear-probe", "shots": 8}


def typed(**values: str) -> FitConfig:
    return resolve([command_line({"data": "a.csv", "model": "demo:glyphnet", "out": "run", "method": "plain", **values})])


def features_of(run: Run, split: str) -> np.ndarray:
    """Pooled features of a split by the network a run started from."""
    from holdfast.recorded import data_of, network_of, start_of

    start, data = start_of(run), data_of(run, network_of(run)[1].input)
    with torch.no_grad():
        return torch.cat([start.features(batch.inputs)["pooled"] for batch in data.batches(split)]).double().numpy()


def train_labels(run: Run) -> np.ndarray:
    """Classes of the training examples, in the order of the ids."""
    from holdfast.recorded import data_of, network_of

    return data_of(run, network_of(run)[1].input).labels("train")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to look at."""
    return holdfast.fit("demo:digits", out=tmp_path_factory.mktemp("probe") / "run", **PROBE)


def test_the_head_is_the_classifier_with_the_smallest_loss_on_validation(probed: Run):
    record = probed.result["training"]["probe"]
    assert [entry["l2"] for entry in record["tried"]] == list(DECAYS)
    assert record["l2"] == min(record["tried"], key=lambda entry: entry["loss"])["l2"]
    stored = probed.load_predictions()["val"]
    rows, val = features_of(probed, "train"), features_of(probed, "val")
    expected = logistic_path(rows, train_labels(probed), 10)[record["l2"]]
    np.testing.assert_allclose(stored.logits, expected.logits(val), atol=2e-3)
    assert probed.val.accuracy == pytest.approx(next(one["accuracy"] for one in record["tried"] if one["l2"] == record["l2"]))


def test_nothing_else_has_moved_and_the_run_is_an_ordinary_one(probed: Run):
    from holdfast.recorded import start_of

    start = start_of(probed).net.state_dict()
    changed = {name for name, tensor in probed.load_weights().items() if not torch.equal(tensor, start[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert [(row["epoch"], row["step"]) for row in probed.history] == [(1, 0)]
    assert probed.result["selections"][0]["by"] == "val-accuracy"
    assert probed.config["freeze"] == ["backbone"]
    cost = probed.result["cost"]
    assert (cost["steps"], cost["seconds_per_step"], cost["images_per_second"]) == (0, None, None)
    assert cost["seconds_total"] > 0
    assert len(build.load_model(probed.path)[1]) == 10


def test_the_summary_says_how_the_head_was_found(probed: Run, capsys: pytest.CaptureFixture[str]):
    print_summary(probed)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"with the L2 penalty {probed.result['training']['probe']['l2']:.2g}, the best of 8 by its loss on held-out examples." in printed
    assert "ms a step" not in printed


def test_rates_epochs_seeds_and_averages_have_no_say(probed: Run, tmp_path: Path):
    other = {"epochs": 9, "lr": 0.5, "seed": 3, "ema": 0.9, "patience": 1, "augment": "resized-crop"}
    again = holdfast.fit("demo:digits", out=tmp_path / "run", **PROBE | other)
    first, second = probed.load_weights(), again.load_weights()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.result["training"]["stopped_early"] is False


def test_a_probe_that_was_killed_is_solved_again(probed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            holdfast.fit("demo:digits", out=tmp_path / "run", **PROBE)
    run = holdfast.fit(resume=tmp_path / "run")
    assert len(run.history) == 1
    assert all(torch.equal(tensor, run.load_weights()[name]) for name, tensor in probed.load_weights().items())


def test_without_validation_a_fifth_of_train_chooses_and_is_put_back(tmp_path: Path):
    run = holdfast.fit("demo:digits", out=tmp_path / "run", **PROBE | {"val_fraction": 0, "select": "last"})
    record = run.result["training"]["probe"]
    assert len(record["tried"]) == len(DECAYS)
    labels = train_labels(run)
    out = every_fifth(labels, 0)
    rows = features_of(run, "train")
    best = logistic_path(rows, labels, 10, decays=(record["l2"],))[record["l2"]]
    weight = run.load_weights()["fc.weight"].double().numpy()
    np.testing.assert_allclose(weight, best.weight, atol=1e-3 * np.abs(best.weight).max())
    trial = logistic_path(rows[~out], labels[~out], 10)
    losses = {entry["l2"]: entry["loss"] for entry in record["tried"]}
    chosen = -np.log(_softmax(trial[record["l2"]].logits(rows[out]))[np.arange(out.sum()), labels[out]]).mean()
    assert losses[record["l2"]] == pytest.approx(chosen, rel=1e-3) == min(losses.values())


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_every_fifth_example_of_a_class_is_held_out():
    labels = np.repeat([0, 1, 2], [10, 5, 4])
    out = every_fifth(labels, seed=1)
    assert [int(out[labels == label].sum()) for label in range(3)] == [2, 1, 0]
    assert (every_fifth(labels, seed=1) == out).all()
    assert any((every_fifth(labels, seed=seed) != out).any() for seed in range(5))


BAD: list[tuple[dict[str, str], str]] = [
    ({"recipe": "lpft"}, "--recipe: expected one of full, linear-probe, lp-ft, got 'lpft'. Did you mean 'lp-ft'?"),
    (
        {"recipe": "linear-probe", "method": "gce+adarand"},
        "--recipe linear-probe: trains no features and solves for the cross-entropy, so "
        "--method gce+adarand has no say; leave it out, type --recipe lp-ft, or train the head by steps with --freeze backbone.",
    ),
    (
        {"recipe": "lp-ft", "freeze": "backbone"},
        "--recipe lp-ft: with --freeze backbone nothing is left to fine-tune after the probe; type --recipe linear-probe.",
    ),
    (
        {"recipe": "lp-ft", "labels": "robust"},
        "--recipe lp-ft: its linear probe would be fitted to the labels as they are, wrong ones too, "
        "which --labels robust is there to prevent; give one of them.",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), BAD, ids=["unknown", "a method", "frozen", "wrong labels"])
def test_what_does_not_fit_a_recipe_is_refused_in_words(values: dict[str, str], sentence: str):
    with pytest.raises(ConfigError) as error:
        typed(**values)
    assert str(error.value) == sentence
