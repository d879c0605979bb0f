"""What a finished run has written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.small_runs import CLASSES

import holdfast
from holdfast.run import Run
from holdfast.run.result import validate_result
from holdfast.training.evaluate import Predictions, measure

Fit = Callable[..., Run]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with a method."""
    out = tmp_path_factory.mktemp("result") / "run"
    return holdfast.fit(images, model="demo:glyphnet", method="adarand", epochs=3, batch_size=6, device="cpu", threads=1, out=out)


def test_the_result_is_complete(run: Run) -> None:
    result = run.result
    validate_result(result)
    assert (result["finished"], result["data"]["classes"]) == (True, list(CLASSES))
    assert [result["data"][f"n_{split}"] for split in ("train", "val", "test")] == [18, 9, 9]
    assert [run.train.n, run.val.n, run.test.n] == [18, 9, 9]
    assert result["data"]["fingerprint"] == run.splits["fingerprint"]
    assert result["model"]["reference_fingerprint"] == run.reference["fingerprint"]
    assert result["model"]["parameters"] == sum(tensor.numel() for name, tensor in run.load_weights().items() if is_trained(name))
    assert len(result["config_hash"]) == 64
    assert set(result["terms"]) == {"cross-entropy", "adarand"}
    assert result["cost"]["steps"] == 9
    assert all(value is not None for value in result["cost"].values())
    assert result["cost"]["seconds_per_step"] * 9 <= result["cost"]["seconds_total"]


def is_trained(name: str) -> bool:
    return name.rpartition(".")[2] in ("weight", "bias")


@pytest.mark.parametrize("split", ["val", "test"])
def test_metrics_are_those_of_the_stored_predictions(run: Run, split: str) -> None:
    rows = run.load_predictions()[split]
    assert run.result[split]["accuracy"] == np.mean(rows.logits.argmax(axis=1) == rows.labels)
    assert run.result[split] == measure(Predictions(torch.from_numpy(rows.logits), torch.from_numpy(rows.labels), torch.arange(9)))
    assert rows.ids.tolist() == run.splits[split]
    assert [CLASSES[label] for label in rows.labels] == [name.split("/")[1] for name in rows.ids.tolist()]


def test_predictions_are_those_of_the_stored_weights(run: Run, images: Path) -> None:
    from holdfast.build import load_model
    from holdfast.config.schema import FitConfig
    from holdfast.data import load_data

    classifier, classes, expected = load_model(run.path)
    data = load_data(FitConfig(data=str(images)), expected)
    (batch,) = data.batches("test")
    with torch.no_grad():
        logits = classifier(batch.inputs).logits
    assert classes == CLASSES
    np.testing.assert_allclose(run.load_predictions()["test"].logits, logits.numpy(), rtol=1e-4, atol=1e-5)


def test_the_selected_candidate_agrees_with_its_epoch_in_the_history(run: Run) -> None:
    for entry in run.result["selections"]:
        row = run.history[entry["epoch"] - 1]
        assert (entry["val"]["accuracy"], entry["val"]["loss"]) == pytest.approx((row["val_accuracy"], row["val_loss"]))
        assert entry["step"] == row["step"]
    assert run.result["val"] == run.result["selections"][0]["val"]
    assert run.result["test"] == run.result["selections"][0]["test"]


def test_the_last_checkpoint_is_all_that_stays(run: Run) -> None:
    assert sorted(path.name for path in run.checkpoint_dir.iterdir()) == ["state.pt"]


def test_the_written_configuration_repeats_the_run(run: Run, tmp_path: Path) -> None:
    again = holdfast.fit(config=run.path / "config.yaml", out=tmp_path / "again")
    assert again.result["config_hash"] == run.result["config_hash"]
    assert again.result["test"] == run.result["test"]
