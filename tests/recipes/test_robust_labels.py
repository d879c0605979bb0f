"""``--labels robust``: what is decided, that both phases write what they promise, and that a killed one goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.recipes.robust_runs import OPTIONS, Fit, classes_in

import holdfast
from holdfast import build
from holdfast.config.layers import command_line
from holdfast.config.load import resolve
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError, DataError
from holdfast.labels.estimators import Estimate
from holdfast.labels.transition import rho, symmetric
from holdfast.recipes import label_estimate, robust_labels
from holdfast.recipes.robust_labels import decide
from holdfast.run import Run

GOOD, HOPELESS = symmetric(10, 0.4), symmetric(10, 0.88)


def typed(**values: str) -> FitConfig:
    return resolve([command_line({"data": "a.csv", "model": "demo:glyphnet", "out": "run", "labels": "robust", **values})])


def names(config: FitConfig) -> list[str]:
    return [entry["name"] for entry in config.methods]


def forward_of(config: FitConfig) -> Any:
    return next(entry["transition"] for entry in config.methods if "transition" in entry)


# ------------------------------------------------------------------------------------------------------------------- options


def test_the_recipe_brings_the_constraint_and_the_selection_and_what_is_typed_wins():
    config = typed()
    assert (names(config), config.select) == (["plain", "distance"], "val-corrected")
    chosen = typed(method="gce+distance-penalty", select="last")
    assert (names(chosen), chosen.select) == (["gce", "distance-penalty"], "last")
    preset = typed(preset="ju2022")
    assert (preset.select, preset.methods[1]["radius"]) == ("val-corrected", "1")
    assert (config.methods[1]["ratio"], config.methods[1]["head_radius"]) == ("auto", "none")
    distance = typed(**{"method.distance.ratio": "0.02", "method.distance.head_radius": "2"}).methods[1]
    assert (distance["ratio"], distance["head_radius"]) == ("0.02", "2")


def test_a_matrix_goes_to_the_correction_that_has_none():
    config = typed(transition="symmetric:0.3", method="backward", labels="as-given")
    assert (forward_of(config), config.matrix) == ("symmetric:0.3", "symmetric:0.3")
    own = typed(**{"method": "forward", "method.forward.transition": "pair:0.2"})
    assert (own.transition, own.matrix) == (None, "pair:0.2")


BAD: list[tuple[dict[str, str], str]] = [
    ({"labels": "rubust"}, "--labels: expected one of as-given, robust, got 'rubust'. Did you mean 'robust'?"),
    ({"labels": "as-given", "select": "val-corrected"}, "--select val-corrected: needs to know how often"),
    ({"labels": "as-given", "transition": "F.json"}, "--transition F.json: nothing in this run uses it; add --labels robust"),
    ({"labels": "as-given", "estimate_from": "run"}, "--estimate-from run: nothing is estimated without --labels robust"),
    (
        {"method": "forward", "method.forward.transition": "pair:0.1", "transition": "pair:0.2"},
        "--transition pair:0.2: the method 'forward' has another, pair:0.1; give one of them.",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), BAD, ids=[sentence[:30] for _, sentence in BAD])
def test_bad_options_are_told_in_words(values: dict[str, str], sentence: str):
    with pytest.raises(ConfigError) as error:
        typed(**values)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (np.eye(3), "the matrix is for 3 classes, but the data has 10"),
        (HOPELESS, "rho is 80.2, so correcting multiplies the noise of the loss by that much"),
        (np.full((10, 10), 0.1), "the matrix is singular"),
    ],
    ids=["of another size", "rho too large", "singular"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_matrix_that_was_given_and_cannot_be_used_is_refused_before_anything_is_written(
    matrix: np.ndarray, sentence: str, fit: Fit, tmp_path: Path
):
    file = tmp_path / "F.json"
    file.write_text(json.dumps(matrix.tolist()))
    with pytest.raises(DataError, match=sentence):
        fit(transition=str(file))
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------------------------- deciding


def test_a_good_matrix_corrects_forward_and_selects():
    config = decide(typed(), GOOD, "F.json", val_labels="noisy")
    assert (names(config), forward_of(config), config.transition, config.select) == (
        ["forward", "distance"],
        "F.json",
        "F.json",
        "val-corrected",
    )


def test_a_hopeless_matrix_gives_way_to_label_smoothing_and_says_so(caplog: pytest.LogCaptureFixture):
    assert rho(HOPELESS) > 20
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        config = decide(typed(), HOPELESS, "F.json", val_labels="noisy")
    assert (names(config), config.transition, config.select) == (["label-smoothing", "distance"], None, "val-accuracy")
    assert "cannot correct the loss (rho is 80.2" in caplog.text
    assert "so the loss is label-smoothing" in caplog.text
    assert "selected by val-accuracy, not val-corrected: there is no matrix" in caplog.text


def test_a_correction_that_was_asked_for_keeps_its_matrix_and_a_loss_without_one_stays():
    assert forward_of(decide(typed(method="backward"), GOOD, "F.json", val_labels="noisy")) == "F.json"
    composed = decide(typed(method="gce+adarand"), GOOD, "F.json", val_labels="noisy")
    assert (names(composed), composed.transition, composed.select) == (["gce", "adarand", "distance"], "F.json", "val-corrected")


def test_a_correction_that_was_asked_for_is_not_replaced_where_the_matrix_cannot_correct():
    with pytest.raises(DataError, match=r"^--method backward: rho is .* as estimated in F\.json; .*--method\.backward\.force true$"):
        decide(typed(method="backward"), HOPELESS, "F.json", val_labels="noisy")


def test_a_forced_correction_takes_a_hopeless_matrix_for_the_loss_alone():
    config = decide(typed(**{"method": "backward", "method.backward.force": "true"}), HOPELESS, "F.json", val_labels="noisy")
    assert (forward_of(config), config.transition, config.select) == ("F.json", None, "val-accuracy")


def test_clean_labels_of_val_select_by_accuracy_and_it_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        config = decide(typed(), GOOD, "F.json", val_labels="clean")
    assert (config.select, config.transition) == ("val-accuracy", "F.json")
    assert "its labels are clean, which takes checked labels" in caplog.text
    assert decide(typed(select="last"), GOOD, "F.json", val_labels="clean").select == "last"


@pytest.mark.parametrize("matrix", [GOOD, HOPELESS], ids=["good", "hopeless"])
@pytest.mark.parametrize("method", ["plain", "gce+adarand"])
def test_what_was_decided_decides_the_same(matrix: np.ndarray, method: str):
    once = decide(typed(method=method), matrix, "F.json", val_labels="noisy")
    assert decide(once, matrix, "F.json", val_labels="noisy") == once


# ------------------------------------------------------------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def finished(noisy_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to look at; nobody changes it."""
    return holdfast.fit(noisy_digits, out=tmp_path_factory.mktemp("robust") / "run", **{**OPTIONS, "labels": "robust", "epochs": 3})


def test_the_run_is_an_ordinary_one_that_repeats_itself(finished: Run, tmp_path: Path):
    assert names(build.resolve_again(finished, {})) == ["forward", "distance"]
    assert finished.config["transition"] == str(finished.path / "estimate" / "transition.json")
    again = holdfast.fit(config=finished.path / "config.yaml", out=tmp_path / "again")
    assert not (tmp_path / "again" / "estimate").exists()  # the matrix is a given one now
    first, second = finished.load_weights(), again.load_weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_estimate_is_near_the_matrix_that_was_injected(finished: Run):
    record = json.loads((finished.path / "estimate" / "transition.json").read_text())
    assert (record["rows"], record["from"], len(record["classes"])) == (250, "features", 10)
    assert record["error"] < 0.5 * np.abs(np.eye(10) - GOOD).sum()
    assert record["rho"] == pytest.approx(rho(np.array(record["transition"])))
    assert record["intervals"]["rho"][0] < record["rho"] < record["intervals"]["rho"][1]


def test_all_selections_are_reported_and_the_first_is_the_best_by_the_corrected_accuracy(finished: Run):
    selections = {entry["by"]: entry for entry in finished.result["selections"]}
    assert set(selections) == {"val-corrected", "val-accuracy", "val-loss", "last", "clean-val"}
    assert finished.result["selections"][0]["by"] == "val-corrected"
    for by, column in (("val-corrected", "val_corrected"), ("clean-val", "clean_val"), ("val-accuracy", "val_accuracy")):
        values = [row[column] for row in finished.history]
        assert selections[by]["epoch"] == values.index(max(values)) + 1
    assert finished.splits["val_labels"] == "noisy"


def test_the_criteria_are_their_definitions(finished: Run, noisy_digits: Path):
    truth, predictions = classes_in(noisy_digits, "true_label"), finished.load_predictions()["val"]
    matrix = np.array(json.loads((finished.path / "estimate" / "transition.json").read_text())["transition"])
    predicted = predictions.logits.argmax(axis=1)
    row = finished.history[finished.result["selections"][0]["epoch"] - 1]
    corrected = [np.linalg.solve(matrix, np.eye(10))[label, guess] for label, guess in zip(predictions.labels, predicted, strict=True)]
    assert row["val_corrected"] == pytest.approx(np.mean(corrected))
    right = [truth[name] == guess for name, guess in zip(predictions.ids, predicted, strict=True)]
    assert row["clean_val"] == pytest.approx(np.mean(right))


def test_the_fractions_of_wrong_labels_are_counted_on_train(finished: Run, noisy_digits: Path):
    noise, train = finished.result["noise"], finished.splits["train"]
    truth, labels = classes_in(noisy_digits, "true_label"), classes_in(noisy_digits, "label")
    assert noise["n"] == 250
    assert noise["noise_rate"] == pytest.approx(np.mean([labels[name] != truth[name] for name in train]))
    assert noise["memorised"] + noise["corrected"] + noise["other"] == pytest.approx(1)
    right = noise["noise_rate"] * noise["corrected"] + (1 - noise["noise_rate"]) * noise["rightly_labelled"]
    assert noise["clean_accuracy"] == pytest.approx(right)
    assert noise["noisy_accuracy"] == pytest.approx(finished.train.accuracy)


def test_prediction_and_report_read_the_run(finished: Run):
    network, classes, _ = build.load_model(finished.path)
    assert (len(classes), network.training) == (10, False)
    assert "clean-val was chosen by the true labels" in holdfast.report(finished).read_text()


# ------------------------------------------------------------------------------------------------------------------- killed


class Killed(Exception):
    """In place of a signal."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize(
    ("place", "name"),
    [(label_estimate, "estimate_transition"), (robust_labels, "decide"), (build, "resume")],
    ids=["while estimating", "before deciding", "before training"],
)
def test_a_run_that_was_killed_between_phases_goes_on_as_if_it_had_not_been(
    place: Any, name: str, fit: Fit, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed)
        with pytest.raises(Killed):
            fit(epochs=3)
    if place is not label_estimate:
        monkeypatch.setattr(robust_labels, "estimate_labels", killed)  # it is finished, and not made again
    run = holdfast.fit(resume=tmp_path / "run")
    first, second = finished.load_weights(), run.load_weights()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert holdfast.fit(resume=tmp_path / "run").result == run.result


def test_an_estimate_that_cannot_correct_ends_in_a_run_without_a_matrix(fit: Fit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_estimate, "estimate_transition", lambda *_, **__: Estimate("anchors", HOPELESS, rho(HOPELESS), 99.0))
    run = fit(epochs=1)
    assert [entry["name"] for entry in run.config["method"]] == ["label-smoothing", "distance"]
    assert run.result["selections"][0]["by"] == "val-accuracy"
    assert {entry["by"] for entry in run.result["selections"]} == {"val-accuracy", "val-loss", "last", "clean-val"}


def test_a_plan_is_that_of_the_last_phase(noisy_digits: Path, tmp_path: Path):
    plan = holdfast.plan(noisy_digits, out=tmp_path / "run", **{**OPTIONS, "labels": "robust"})
    assert names(plan.config) == ["forward", "distance"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_estimate_of_a_first_run_has_a_directory_of_its_own_and_goes_on_there(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(label_estimate, "estimate_transition", killed)
        with pytest.raises(Killed):
            fit(estimate_from="run")
    first = Run.open(tmp_path / "run" / "estimate" / "run")
    assert (first.finished, first.config["labels"]) == (True, "as-given")
    assert [entry["name"] for entry in first.config["method"]] == ["plain", "distance"]
    written = (first.path / "result.json").stat().st_mtime_ns
    run = holdfast.fit(resume=tmp_path / "run")
    assert (first.path / "result.json").stat().st_mtime_ns == written
    assert json.loads((run.path / "estimate" / "transition.json").read_text())["from"] == "run"
    assert run.finished


@pytest.mark.slow
def test_memorised_labels_are_fewer_than_with_plain_fine_tuning(fit: Fit):
    long = {"epochs": 25, "augment": "none", "lr": 0.03}
    plain, robust = fit("plain", labels="as-given", select="last", **long), fit("robust", select="last", **long)
    assert plain.result["noise"]["memorised"] > robust.result["noise"]["memorised"] + 0.1
    assert robust.test.accuracy > plain.test.accuracy


def test_a_table_without_the_truth_reports_none(noisy_digits: Path, tmp_path: Path):
    table = noisy_digits.with_name("without.csv")
    table.write_text(noisy_digits.read_text().replace("true_label", "remark", 1))
    run = holdfast.fit(table, out=tmp_path / "run", **{**OPTIONS, "labels": "robust", "epochs": 1})
    assert "noise" not in run.result
    assert "clean-val" not in {entry["by"] for entry in run.result["selections"]}
    assert run.splits["val_labels"] == "as given"
    assert run.result["selections"][0]["by"] == "val-corrected"
