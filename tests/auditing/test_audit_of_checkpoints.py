"""Checkpoints made elsewhere: two weights files, or a file and a spec, and a folder of data."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from holdfast import audit
from holdfast.errors import CheckpointError, ConfigError, DataError, ModelError

MODEL = "python:tests.training.small_runs:tiny_network"
QUICK = {"budget": "60products", "rtol": 0.9, "samples": 4}


@pytest.fixture
def files(finished, tmp_path):
    """The weights of the finished run and its start, as files of their own."""
    tuned, start = tmp_path / "tuned.safetensors", tmp_path / "start.pt"
    safetensors.torch.save_file(finished.load_weights(), tuned)
    torch.save(finished.load_reference_weights(), start)
    return tuned, start


def test_two_files_give_the_distances_of_the_run(finished, files, images, tmp_path):
    tuned, start = files
    found = audit(model=MODEL, weights=tuned, source=start, data=images, out=tmp_path / "out", **QUICK)
    own = audit(finished, head="zero", **QUICK)
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == found.record
    assert [layer.frob for layer in found.layers] == pytest.approx([layer.frob for layer in own.layers])
    assert found.settings.head == "zero"
    assert any("The start has no head like that of the network" in note for note in found.notes)
    assert found.subject.run is None
    assert found.features.gradient_norm.reference is None
    assert found.bound.n == 18


def test_a_folder_without_splits_is_all_training_data(files, images, tmp_path):
    tuned, start = files
    found = audit(model=MODEL, weights=tuned, source=start, data=images / "train", **QUICK)
    assert found.gap.gap is found.calibration is None
    assert found.bound.n == 18
    assert any("has no splits, so all of it counts as training data" in note for note in found.notes)
    assert found.path is None


def test_what_does_not_fit_is_said_in_a_sentence(files, images, tmp_path):
    tuned, start = files
    whole = {"model": MODEL, "weights": tuned, "source": start, "data": images}
    with pytest.raises(ConfigError, match="--source is missing; a checkpoint is audited with --model SPEC"):
        audit(**{**whole, "source": None})
    with pytest.raises(ConfigError, match="--model, --source, --data are missing"):
        audit()
    safetensors.torch.save_file({"stem.weight": torch.ones(2), "head.weight": torch.ones(2)}, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=r"--source .*wrong\.safetensors does not fit .*2 unexpected"):
        audit(**{**whole, "source": tmp_path / "wrong.safetensors"})
    with pytest.raises(ConfigError, match=r"--source nothing\.pt: there is no such file"):
        audit(**{**whole, "source": "nothing.pt"})
    with pytest.raises(ConfigError, match="--data demo:digits: it has 10 classes, but the head of the network has 3 outputs"):
        audit(**{**whole, "data": "demo:digits"})
    with pytest.raises(DataError, match="--data nowhere: there is no such folder"):
        audit(**{**whole, "data": "nowhere"})


def test_a_start_of_another_architecture_is_refused(files, images):
    tuned, _ = files
    with pytest.raises(ModelError, match="--source demo:glyphnet: this is a start of another architecture: it lacks"):
        audit(model=MODEL, weights=tuned, source="demo:glyphnet", data=images, **QUICK)
