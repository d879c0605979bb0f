"""What the estimators of the transition matrix are tried on, and what the table must show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.label_estimators import CLASSES, COLUMNS, by_heart, errors, human_matrices, overconfident, synthetic, table, votes

from holdfast.labels import expected_calibration_error
from holdfast.labels.transition import symmetric

NOISE = symmetric(CLASSES, 0.4)


def test_synthetic_probabilities_are_those_of_the_noisy_classes() -> None:
    judged = synthetic(NOISE, 0)
    assert expected_calibration_error(judged.probs, judged.observed) < 0.03
    assert (judged.observed != judged.true).mean() == pytest.approx(0.4, abs=0.03)
    clean = synthetic(np.eye(CLASSES), 0)
    assert (clean.probs.argmax(axis=1) == clean.true).mean() == pytest.approx(0.9, abs=0.02)


def test_overconfidence_keeps_the_classes_and_memory_keeps_the_labels() -> None:
    judged = synthetic(NOISE, 0)
    np.testing.assert_array_equal(overconfident(judged).probs.argmax(axis=1), judged.probs.argmax(axis=1))
    np.testing.assert_array_equal(by_heart(judged).probs.argmax(axis=1), judged.observed)
    for change in (overconfident, by_heart):
        assert change(judged).probs.sum(axis=1) == pytest.approx(np.ones(len(judged.true)))


def test_dual_t_counts_calibrated_noise_twice_and_is_taken_where_anchors_are_blind() -> None:
    judged = synthetic(NOISE, 0)
    calibrated, sure = errors(judged, NOISE, 0), errors(overconfident(judged), NOISE, 0)
    assert calibrated["to F F"] < 1 < 4 < calibrated["dual-t"]
    assert calibrated["anchors"] < 0.1
    assert (calibrated["takes dual-t"], sure["takes dual-t"]) == (0, 1)
    assert sure["auto"] == sure["dual-t"] < 1.5 < sure["anchors"]
    assert sure["none"] == pytest.approx(8)  # 0.4 off the diagonal and 0.4 on it, for each of ten classes
    assert sure["anchor distance"] < 0.1 < sure["overconfidence"]


def test_the_table_shows_means_over_seeds() -> None:
    seeds = [dict.fromkeys(COLUMNS, value) for value in (1.0, 0.0)]
    assert table({"noise": seeds})[2] == f"| noise |{' 0.50 ± 0.71 |' * 8} 1 of 2 |{' 0.50 ± 0.71 |' * 3}"


def test_human_labels_and_votes_are_counted(tmp_path: Path) -> None:
    true = np.arange(CLASSES).repeat(20)
    wrong = true.copy()
    wrong[::20] = (true[::20] + 1) % CLASSES  # the first of each class
    labels = {"aggre_label": true, "worse_label": wrong, "random_label1": wrong, "random_label2": true, "random_label3": true}
    np.savez(tmp_path / "cifar10n_labels.npz", clean_label=true, **labels)
    rows = [{"split": "train", "text": str(i), "label": "ab"[i % 2], "votes": {"one": "a"} if i < 3 else {}} for i in range(4)]
    (tmp_path / "trec.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert human_matrices(tmp_path)["worse_label"].diagonal() == pytest.approx(np.full(CLASSES, 0.95))
    annotators, _, rules = votes(tmp_path)
    assert (
        annotators == "CIFAR-10N, three annotators: 95.0, 100.0 and 100.0 % right; majority, ties at random, 100.0 %; Dawid-Skene 100.0 %."
    )
    assert rules == "TREC, 1 rules: 75.0 % of 4 questions have a majority, which is right in 66.7 %."
