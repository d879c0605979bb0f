"""Features measured while a run trains: what is written, and that training does not notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import torchrun
from tests.training.small_runs import assert_same_run, assert_same_tensors, history, tiny_network
from tests.training.test_ranks import SAME
from torch import Tensor, nn

import holdfast
from holdfast.build import load_model
from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.measures import tracking
from holdfast.measures.features import conditional_entropy, differential_entropy, feature_norm, gradient_norm, norm_of_mean_feature
from holdfast.measures.tracking import measure_features
from holdfast.models.classifier import Classifier
from holdfast.run import Run
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.events import Event, Measured, StepDone

Fit = Callable[..., Run]

DRAWING = "python:tests.measures.test_tracking:drawing_network"


class Noise(nn.Module):
    """Draws from the global generator, in eval mode too."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 0 * torch.rand(()) if not self.training else inputs + 0.1 * torch.randn_like(inputs)


def drawing_network() -> nn.Module:
    return nn.Sequential(Noise(), *tiny_network())


class Crash(Exception):
    """Stands for the end of the process."""


def crash_at(step: int) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise Crash

    return listen


def expected_row(classifier: Classifier, data: RunData) -> dict[str, Any]:
    """The definition of a row, from a plain pass over the un-augmented training images."""
    with torch.no_grad():
        outputs = [classifier(batch.inputs) for batch in data.batches("train")]
    features, logits = torch.cat([o.features["pooled"] for o in outputs]), torch.cat([o.logits for o in outputs])
    labels = torch.from_numpy(data.labels("train"))
    entropy, (conditional, left_out) = differential_entropy(features), conditional_entropy(features, labels)
    return {
        "examples": 18,
        "feature_norm": feature_norm(features),
        "norm_of_mean_feature": norm_of_mean_feature(features),
        "entropy": entropy,
        "conditional_entropy": conditional,
        "mutual_information": entropy - conditional,
        "left_out": left_out,
        "gradient_norm": gradient_norm(logits, labels, features),
    }


def test_rows_are_of_the_pretrained_network_and_of_each_epoch(fit: Fit, images: Path) -> None:
    run = fit(model="demo:glyphnet", image_size=None, track="features", select="last", method="adarand", batch_size=6, lr=0.05)
    rows = run.features
    assert [(row.pop("epoch"), row.pop("step")) for row in rows] == [(0, 0), (1, 3), (2, 6)]
    classifier, _, spec = load_model(run.path)
    data = load_data(FitConfig(data=str(images)), spec)
    assert rows[2] == pytest.approx(expected_row(classifier, data), rel=1e-4)
    unchanged = fit("unchanged", model="demo:glyphnet", image_size=None, epochs=1, lr=0.0, batchnorm="frozen", select="last")
    assert rows[0] == pytest.approx(expected_row(load_model(unchanged.path)[0], data), rel=1e-4)
    assert rows[2]["feature_norm"] != pytest.approx(rows[0]["feature_norm"], rel=1e-2)


def test_history_is_what_it_is_without_tracking(fit: Fit) -> None:
    tracked, plain = fit("tracked", track="features"), fit("plain")
    assert history(tracked) == history(plain)
    assert not plain.has("features.csv")


@pytest.mark.parametrize("model", ["python:tests.training.small_runs:tiny_network", DRAWING], ids=["dropout", "draws in eval mode"])
def test_tracking_and_trackers_do_not_change_training(model: str, fit: Fit) -> None:
    plain = fit("plain", model=model, method="adarand", select="last")
    tracked = fit("tracked", model=model, method="adarand", select="last", track=["features", "test"], tracker=["csv", "tensorboard"])
    assert_same_tensors(tracked.load_weights(), plain.load_weights())
    shared = [{key: row[key] for key in plain_row} for row, plain_row in zip(history(tracked), history(plain), strict=True)]
    assert shared == history(plain)
    states = [load_checkpoint(run)["by_rank"][0]["random"]["torch"] for run in (plain, tracked)]
    assert torch.equal(*states)
    assert tracked.result["config_hash"] == plain.result["config_hash"]


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_resumed_run_measures_the_same(step: int, fit: Fit, tmp_path: Path) -> None:
    options = {"method": "adarand", "track": ["features", "test"]}
    undisturbed = fit("undisturbed", **options)
    with pytest.raises(Crash):
        fit(**options, listener=crash_at(step), checkpoint_minutes=0.0 if step in (3, 4) else 1000.0)
    resumed = holdfast.fit(resume=tmp_path / "run")
    assert resumed.features == undisturbed.features
    assert_same_run(resumed, undisturbed)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_row_written_just_before_the_end_is_not_there_twice(
    epoch: int, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fit("undisturbed", track="features")
    append = Run.append_features

    def append_and_crash(self: Run, row: dict[str, Any]) -> None:
        append(self, row)
        if row["epoch"] == epoch:
            raise Crash

    monkeypatch.setattr(Run, "append_features", append_and_crash)
    with pytest.raises(Crash):
        fit(track="features")
    monkeypatch.setattr(Run, "append_features", append)
    assert [row["epoch"] for row in Run.open(tmp_path / "run").features] == list(range(epoch + 1))
    assert holdfast.fit(resume=tmp_path / "run").features == undisturbed.features


def test_a_large_training_split_is_represented_by_a_fixed_part(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_EXAMPLES", 7)
    runs = [fit(name, track="features", lr=0.0, batchnorm="frozen", **seed) for name, seed in SEEDS.items()]
    rows = [{key: value for key, value in row.items() if key not in ("epoch", "step")} for row in runs[0].features]
    assert rows[0]["examples"] == 7
    assert rows[0] == rows[1] == rows[2]  # nothing is learnt at rate 0, so the examples must be the same
    norms = [run.features[0]["feature_norm"] for run in runs]
    assert norms[0] == norms[1]
    assert norms[0] != norms[2]


SEEDS = {"first": {}, "again": {}, "other": {"data_seed": 1}}


def test_events_tell_what_was_measured_after_the_checkpoint(fit: Fit) -> None:
    events: list[Event] = []
    run = fit(track="features", listener=events.append)
    measured = [event for event in events if isinstance(event, Measured)]
    assert [(event.what, event.epoch, event.step) for event in measured] == [("features", 0, 0), ("features", 1, 3), ("features", 2, 6)]
    assert [{"epoch": event.epoch, "step": event.step, **event.values} for event in measured] == run.features
    for event in measured:
        assert type(events[events.index(event) - 1]).__name__ == ("EpochDone" if event.epoch else "CheckpointSaved")


def test_measures_of_a_single_example_are_empty_cells_where_unknown(tmp_path: Path) -> None:
    row = measure_features(torch.ones(1, 4), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2))
    run = Run.create(tmp_path / "run", {})
    run.append_features({"epoch": 0, "step": 0, **row})
    (read,) = run.features
    assert (read["examples"], read["feature_norm"], read["left_out"]) == (1, 2.0, 1)
    assert read["entropy"] is read["conditional_entropy"] is read["mutual_information"] is None


@pytest.mark.ranks
def test_two_ranks_measure_what_one_does(fit: Fit, images: Path, tmp_path: Path) -> None:
    one = fit("one", **SAME, track=["features", "test"])
    options = {**SAME, "track": "features,test", "out": tmp_path / "two"}
    words = [word for key, value in options.items() if value is not None for word in (f"--{key.replace('_', '-')}", str(value))]
    done = torchrun("-m", "holdfast", "fit", images, *words)
    assert done.returncode == 0, done.stderr
    two = Run.open(tmp_path / "two")
    for row, other in zip(two.features, one.features, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    assert [row["test_accuracy"] for row in two.history] == pytest.approx([row["test_accuracy"] for row in one.history])
