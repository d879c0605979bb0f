"""Losses for wrong labels in whole runs: what is refused before anything is written, and what state the examples have."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from tests.training.small_runs import OPTIONS

import holdfast
from holdfast.errors import ConfigError, DataError
from holdfast.training.checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("transition", "error", "sentence"),
    [
        ("none", ConfigError, "--method backward: the transition matrix of the labels is missing"),
        ("absent.csv", ConfigError, "--method backward: transition 'absent.csv': No such file"),
        ("two.npy", DataError, "the matrix is for 2 classes, but the data has 3"),
    ],
)
def test_a_matrix_that_does_not_fit_leaves_no_run_behind(images, tmp_path, monkeypatch, transition, error, sentence) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", np.eye(2))
    with pytest.raises(error, match=sentence):
        holdfast.fit(images, **OPTIONS, method={"name": "backward", "transition": transition}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("method", "option"), [("sat", "start_epoch"), ("dac", "warmup_epochs")])
def test_a_method_that_never_begins_says_so(images: Path, tmp_path: Path, caplog, method: str, option: str) -> None:
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        holdfast.fit(images, **OPTIONS, method={"name": method, option: 2}, out=tmp_path / "late")
        assert f"method '{method}' begins after 2 epochs, and this run has 2" in caplog.text
        assert f"--method.{method}.{option}" in caplog.text
        caplog.clear()
        holdfast.fit(images, **OPTIONS, method={"name": method, option: 1}, out=tmp_path / "begins")
    assert "begins after" not in caplog.text


def test_state_is_kept_for_the_training_examples_by_their_index(images: Path, tmp_path: Path) -> None:
    run = holdfast.fit(images, **OPTIONS, method="elr", out=tmp_path / "run")
    state = load_checkpoint(run)["terms"]
    everyone = sorted(id for split in ("train", "val", "test") for id in run.splits[split])
    assert [everyone[index] for index in state["0.examples"].tolist()] == run.splits["train"]
    assert state["0.targets"].shape == (18, 3)
    # Seen in both epochs by running means of 0.7: 1 - 0.7² of a distribution.
    np.testing.assert_allclose(state["0.targets"].sum(1), 1 - 0.7**2, rtol=1e-5)
