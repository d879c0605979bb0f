"""Runs whose data, weights or records are gone or changed, runs of other precision, and runs that kept their predictions alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.small_runs import OPTIONS, write_images

import holdfast
from holdfast import Run, audit
from holdfast.errors import CheckpointError, ConfigError, DataError, ModelError, RunError

QUICK = {"budget": "60products", "rtol": 0.9}


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that may be spoilt."""
    shutil.copytree(finished.path, tmp_path / "copy", ignore=shutil.ignore_patterns("audit.json"))
    return Run.open(tmp_path / "copy")


def change_config(run: Run, **values: object) -> Run:
    text = (run.path / "config.yaml").read_text()
    for key, value in values.items():
        lines = [f"{key}: {json.dumps(value)}" if line.startswith(f"{key}:") else line for line in text.splitlines()]
        text = "\n".join(lines) + "\n"
    (run.path / "config.yaml").write_text(text)
    return Run.open(run.path)


def test_data_that_moved_are_found_where_they_are_now(copied, finished, tmp_path):
    elsewhere = write_images(tmp_path / "elsewhere")
    moved = change_config(copied, data="nowhere/at/all")
    with pytest.raises(DataError, match=r"the data of .*copy' cannot be read again: .* say where they are now with --data"):
        audit(moved, **QUICK)
    found = audit(moved, data=elsewhere, **QUICK)
    assert found.subject.data == str(elsewhere)
    assert found.subject.data_fingerprint == finished.splits["fingerprint"]


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda root: (root / "train" / "ant" / "0.png").unlink(), "1 of its examples are gone and 0 are new"),
        (lambda root: shutil.copy(root / "test" / "bee" / "0.png", root / "train" / "bee" / "0.png"), "files or labels have changed"),
        (
            lambda root: shutil.move(root / "val" / "fly" / "0.png", root / "train" / "fly" / "9.png"),
            "1 of its examples are gone and 1 are new",
        ),
    ],
)
def test_data_that_changed_are_refused_with_what_changed(copied, tmp_path, spoil, difference):
    root = write_images(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=f"these are no longer the data of .*: .*{difference}"):
        audit(copied, data=root, **QUICK)


def test_weights_of_another_start_are_refused(copied, tmp_path):
    (copied.path / "reference.safetensors").unlink()
    state = {name: value + 1 for name, value in copied.load_weights().items() if value.is_floating_point()}
    (tmp_path / "run2").mkdir()
    other = Run(tmp_path / "run2", {}, {})
    other.save_tensors("other.safetensors", {name: value for name, value in state.items() if not name.startswith("9.")})
    with pytest.raises(CheckpointError, match=r"--source .*other.safetensors: these are not the weights that .* started from"):
        audit(copied, source=tmp_path / "run2" / "other.safetensors", **QUICK)
    with pytest.raises(ModelError, match=r"started from cannot be read again \(.*no such file.*\); say where they are with --source FILE"):
        audit(copied, source="gone.safetensors", **QUICK)


def test_pretrained_weights_are_read_from_where_they_moved(copied, finished):
    shutil.move(copied.path / "reference.safetensors", copied.path / "elsewhere.safetensors")
    found = audit(copied, source=copied.path / "elsewhere.safetensors", **QUICK)
    assert found.totals.l2 == pytest.approx(audit(finished, **QUICK).totals.l2)


def test_a_run_that_has_not_finished_says_how_to_go_on(copied):
    (copied.path / "result.json").unlink()
    with pytest.raises(RunError, match=r"has not finished training; type `holdfast fit --resume"):
        audit(copied)


def test_what_is_no_run_and_a_run_without_weights(copied, tmp_path):
    with pytest.raises(RunError, match="is no run directory"):
        audit(tmp_path)
    (copied.path / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"has no model\.safetensors"):
        audit(copied, **QUICK)
    with pytest.raises(ConfigError, match=r"audit\(weights=...\) does not belong to a run"):
        audit(copied, weights="a.pt")


def test_a_run_trained_in_bf16_is_audited_in_fp32(images, tmp_path):
    run = holdfast.fit(**{"data": images, **OPTIONS, "precision": "bf16", "out": tmp_path / "bf16"})
    first = audit(run, **QUICK)
    change_config(run, precision="fp32")
    again = audit(run.path, **QUICK)
    assert first.record["layers"] == again.record["layers"]
    assert first.gap.train_loss == again.gap.train_loss
    assert first.gap.train_loss != pytest.approx(run.train.loss, rel=1e-6)  # which was measured in the precision of the run


def test_frozen_weights_are_left_out_and_said(images, tmp_path):
    run = holdfast.fit(**{"data": images, **OPTIONS, "freeze": ["0", "1"], "out": tmp_path / "frozen"})
    found = audit(run, **QUICK)
    assert [layer.name for layer in found.layers] == ["4.weight", "9.weight"]
    assert "Frozen weights (0, 1) did not move and are left out." in found.notes


def test_a_run_of_a_loop_of_ones_own_tells_what_its_predictions_tell(tmp_path):
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(30, 3)), generator.integers(0, 3, 30)
    run = Run.save(
        tmp_path / "own",
        model_state={"weight": torch.ones(2)},
        classes=["a", "b", "c"],
        predictions={"train": (logits, labels, range(30)), "test": (2 * logits[:9], labels[:9], range(9))},
        result={},
    )
    found = audit(run)
    assert run.audit == found.record
    assert found.bound is found.spectrum is found.features is None
    assert found.layers == []
    assert found.gap.n_train == 30
    losses = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert found.gap.train_loss == pytest.approx(float(losses), rel=1e-5)
    assert found.calibration.n == 9
    assert "written by a training loop of your own" in found.notes[0]


def test_a_run_without_predictions_has_nothing_to_tell(tmp_path):
    run = Run.save(tmp_path / "own", model_state={"weight": torch.ones(2)}, classes=["a"], predictions={}, result={})
    found = audit(run)
    assert found.gap.train_loss is found.gap.test_loss is found.calibration is None


def test_an_audit_takes_the_place_of_an_earlier_one(copied):
    first = audit(copied, **QUICK)
    second = audit(copied, samples=5, **QUICK)
    assert first.settings.samples == 128
    assert copied.audit["settings"]["samples"] == second.settings.samples == 5
    assert [path.name for path in Path(copied.path).iterdir() if "tmp" in path.name] == []
