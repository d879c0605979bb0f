"""``--labels robust`` where labels of val are clean: a matrix by their help, and revised labels where no matrix can correct."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.recipes.robust_runs import OPTIONS, classes_in

import holdfast
from holdfast import build
from holdfast.config.schema import FitConfig
from holdfast.labels import inject_from_matrix, judged_by_known, likeliest_transition, posterior_of_truth
from holdfast.labels.examples import read_examples, write_examples
from holdfast.labels.transition import pair, rho
from holdfast.parts import Parts
from holdfast.recipes import label_revision, robust_labels
from holdfast.run import Run
from holdfast.training.engine import Engine

HOPELESS = 0.04 * np.eye(10) + 0.96 * np.array([0.55, *[0.05] * 9])
"""Whatever a digit is, it is mostly called 0."""


def noisy(folder: Path, matrix: np.ndarray) -> Path:
    """Digits whose training labels went wrong by a matrix; those of val are right."""
    examples = read_examples("demo:digits").with_splits(FitConfig(data="demo:digits"))
    true = examples.indices(examples.labels, examples.classes, "the label")
    found = inject_from_matrix(true, matrix, seed=0, rows=examples.in_split("train").nonzero()[0])
    file = folder / "digits.csv"
    write_examples(str(file), examples, {"label": [examples.classes[label] for label in found.labels], "true_label": examples.labels})
    return file


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy(tmp_path_factory.mktemp("hopeless"), HOPELESS)


def robust(table: Path, out: Path, **options: Any) -> Run:
    return holdfast.fit(
        table, out=out, **{**OPTIONS, "shots": None, "train_fraction": 0.3, "epochs": 2, "batch_size": 32, "labels": "robust", **options}
    )


@pytest.fixture(scope="module")
def finished(hopeless: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on labels that no matrix corrects; nobody changes it."""
    return robust(hopeless, tmp_path_factory.mktemp("revised") / "run")


def record(run: Run) -> dict[str, Any]:
    return json.loads((run.path / "estimate" / "transition.json").read_text())


def test_where_no_matrix_corrects_training_is_on_revised_labels(finished: Run):
    assert rho(HOPELESS) > 20
    config = build.resolve_again(finished, {})
    assert [entry["name"] for entry in config.methods] == ["plain", "distance"]
    assert (config.train_labels, config.transition, config.select) == (str(finished.path / "estimate" / "labels.csv"), None, "val-accuracy")
    assert finished.result["selections"][0]["by"] == "val-accuracy"


def test_the_revised_labels_are_mostly_right_and_the_record_says_how_many(finished: Run, hopeless: Path):
    truth, given = classes_in(hopeless, "true_label"), classes_in(hopeless, "label")
    with (finished.path / "estimate" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == finished.splits["train"]
    assert all(int(row["given"]) == given[row["id"]] for row in rows)
    revised = record(finished)["revised"]
    right = {
        "right_before": np.mean([given[row["id"]] == truth[row["id"]] for row in rows]),
        "right_after": np.mean([int(row["label"]) == truth[row["id"]] for row in rows]),
        "changed": np.mean([row["label"] != row["given"] for row in rows]),
        "confidence": np.mean([float(row["weight"]) for row in rows]),
    }
    assert revised == pytest.approx(right, abs=1e-5)
    assert right["right_before"] < 0.2
    assert right["right_after"] > 0.85


def test_the_estimate_is_the_likeliest_matrix_by_what_val_teaches_and_never_by_the_truth_of_train(finished: Run):
    parts = Parts.build(dataclasses.replace(build.resolve_again(finished, {}), train_labels=None), Engine("cpu", "fp32"))
    data = parts.data
    features = [
        torch.cat([parts.reference.features(batch.inputs)["pooled"] for batch in data.batches(split)]).double().numpy()
        for split in ("train", "val")
    ]
    known = np.array([-1] * data.size("train") + data.labels("val").tolist())
    probs = judged_by_known(np.concatenate(features), known, 10)[: data.size("train")]
    matrix = likeliest_transition(probs, data.labels("train"))
    np.testing.assert_allclose(record(finished)["transition"], matrix, atol=1e-6)
    with (finished.path / "estimate" / "labels.csv").open(newline="") as file:
        found = [int(row["label"]) for row in csv.DictReader(file)]
    assert found == posterior_of_truth(probs, data.labels("train"), matrix).argmax(axis=1).tolist()
    assert (record(finished)["estimator"], record(finished)["known"]) == ("known-rows", data.size("val"))
    low, high = record(finished)["intervals"]["rho"]
    assert low < high


def test_what_became_of_wrong_labels_is_told_of_those_that_were_given(finished: Run, hopeless: Path):
    truth, given = classes_in(hopeless, "true_label"), classes_in(hopeless, "label")
    noise = finished.result["noise"]
    assert noise["noise_rate"] == pytest.approx(np.mean([given[name] != truth[name] for name in finished.splits["train"]]))
    assert noise["noise_rate"] > 0.8


def test_revised_labels_make_a_far_better_network(finished: Run, hopeless: Path, tmp_path: Path):
    plain = robust(hopeless, tmp_path / "plain", labels="as-given")
    assert finished.test.accuracy > plain.test.accuracy + 0.3


def test_a_killed_run_goes_on_with_the_labels_that_it_had(hopeless: Path, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "resume", killed)
        with pytest.raises(KeyboardInterrupt):
            robust(hopeless, tmp_path / "run")
    monkeypatch.setattr(robust_labels, "estimate_labels", killed)
    run = holdfast.fit(resume=tmp_path / "run")
    first, second = finished.load_weights(), run.load_weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_its_configuration_repeats_it_without_another_estimate(finished: Run, tmp_path: Path):
    again = holdfast.fit(config=finished.path / "config.yaml", out=tmp_path / "again")
    assert not (tmp_path / "again" / "estimate").exists()
    first, second = finished.load_weights(), again.load_weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_matrix_that_corrects_is_found_by_the_help_of_val_and_labels_stay(tmp_path: Path):
    table = noisy(tmp_path, pair(10, 0.4))
    whole = {"train_fraction": None}
    helped, alone = robust(table, tmp_path / "helped", **whole), robust(table, tmp_path / "alone", val_labels="noisy", **whole)
    assert [entry["name"] for entry in helped.config["method"]] == ["forward", "distance"]
    assert helped.config["train_labels"] is None
    assert (record(helped)["estimator"], record(alone)["estimator"]) == ("known-rows", "confident-joint")
    assert record(helped)["error"] < 0.6 * record(alone)["error"]


class Val:
    """Data of which only the labels of val are looked at."""

    classes = ("a", "b")

    def __init__(self, *labels: int, kind: str = "clean") -> None:
        self.kind, self.of_val = kind, np.array(labels, dtype=np.int64)

    def has(self, _: str) -> bool:
        return len(self.of_val) > 0

    def splits_record(self) -> dict[str, str]:
        return {"val_labels": self.kind}

    def labels(self, _: str) -> np.ndarray:
        return self.of_val


@pytest.mark.parametrize(
    ("val", "sentence"),
    [
        (Val(*[0, 1] * 24), "there are 48, and 50 are the fewest"),
        (Val(*[0] * 60), "class 'b' has none"),
        (Val(*[0, 1] * 30, kind="as given"), ""),
        (Val(), ""),
    ],
)
def test_clean_labels_that_are_too_few_teach_nothing_and_it_is_said(val: Any, sentence: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        assert not label_revision.teaches(val)
    assert sentence in caplog.text
    assert bool(caplog.text) == bool(sentence)


def test_fifty_clean_labels_teach():
    val: Any = Val(*[0, 1] * 25)
    assert label_revision.teaches(val)
