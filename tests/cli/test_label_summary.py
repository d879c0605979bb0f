"""What the summary of a run says of wrong labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import RESULT

from holdfast.cli.label_summary import label_lines
from holdfast.run import Run

NOISE = {"n": 100, "noise_rate": 0.4, "memorised": 0.05, "corrected": 0.9, "other": 0.05}


def written(path: Path, result: dict[str, Any], val_labels: str = "noisy", **config: Any) -> Run:
    """A finished run of two classes."""
    run = Run.create(path, config)
    run.write_splits({"schema": 1, "classes": ["a", "b"], "val_labels": val_labels})
    run.write_result({**RESULT, **result})
    return run


def selected(by: str, epoch: int, accuracy: float) -> dict[str, Any]:
    test = {**RESULT["test"], "accuracy": accuracy, "accuracy_ci95": [0.0, 1.0]}
    return {"by": by, "epoch": epoch, "step": 10 * epoch, "weights": "raw", "val": None, "test": test}


def test_a_run_without_wrong_labels_says_nothing_of_them(tmp_path: Path):
    assert list(label_lines(written(tmp_path / "run", {}, method=[{"name": "plain"}]))) == []


def test_wrong_labels_whose_truth_is_known_are_counted_in_words(tmp_path: Path):
    (line,) = label_lines(written(tmp_path / "run", {"noise": NOISE}))
    assert line == (
        "Of 100 training labels whose truth is known 40.0 % are wrong; of these 5.0 % were memorised, 90.0 % corrected, and 5.0 % taken "
        "for another class."
    )
    right = {**NOISE, "noise_rate": 0.0, "memorised": None, "corrected": None, "other": None}
    (line,) = label_lines(written(tmp_path / "right", {"noise": right}))
    assert line == "Of 100 training labels whose truth is known 0.0 % are wrong."


def test_a_robust_run_says_what_was_decided_and_what_each_choice_would_have_given(tmp_path: Path):
    methods = [{"name": "forward"}, {"name": "distance"}]
    selections = [selected("val-corrected", 3, 0.9), selected("last", 5, 0.8), selected("clean-val", 4, 0.92)]
    run = written(tmp_path / "run", {"selections": selections}, labels="robust", method=methods, transition="F.json")
    decided, selection = label_lines(run)
    assert decided == "Labels robust: how labels go wrong was given, F.json; trained with forward+distance."
    assert selection == (
        "Test accuracy by selection: val-corrected 90.0 % (epoch 3), last 80.0 % (epoch 5), clean-val 92.0 % (epoch 4). "
        "Labels of val are noisy. True labels of val chose clean-val, for comparison."
    )


def test_an_estimate_that_was_refused_is_told(tmp_path: Path):
    run = written(tmp_path / "run", {}, labels="robust", method=[{"name": "gce"}], transition=None)
    (run.path / "estimate").mkdir()
    record = {"estimator": "confident-joint", "transition": [[0.5, 0.5], [0.5, 0.5]], "rho": 34.5678}
    (run.path / "estimate" / "transition.json").write_text(json.dumps(record))
    decided = next(label_lines(run))
    assert decided == (
        "Labels robust: confident-joint says that a label is right in 50.0 % of cases (rho 34.6, too much to correct with); "
        "trained with gce."
    )


def test_revised_labels_are_told_with_who_helped(tmp_path: Path):
    run = written(
        tmp_path / "run", {}, labels="robust", method=[{"name": "plain"}], transition=None, train_labels="run/estimate/labels.csv"
    )
    (run.path / "estimate").mkdir()
    record = {"estimator": "known-rows", "transition": [[0.5, 0.5], [0.5, 0.5]], "rho": None, "known": 60, "revised": {"changed": 0.413}}
    (run.path / "estimate" / "transition.json").write_text(json.dumps(record))
    assert next(label_lines(run)) == (
        "Labels robust: known-rows says that a label is right in 50.0 % of cases (rho without limit, too much to correct with); trained "
        "with plain on labels of which 41.3 % were revised with the help of 60 clean ones of val (run/estimate/labels.csv)."
    )


def test_labels_that_were_revised_before_are_told(tmp_path: Path):
    run = written(tmp_path / "run", {}, labels="robust", method=[{"name": "plain"}], transition=None, train_labels="mended.csv")
    assert next(label_lines(run)) == "Labels robust: labels were revised before; trained with plain on the labels of mended.csv."
