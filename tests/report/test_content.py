"""What the sections say, read from the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.report.examples import audit_of, write_audit, write_run
from tests.report.parsing import read_page

from holdfast.report import write_report


@pytest.fixture
def report(tmp_path):
    """A function that writes the report of an audit, or of a run, and reads the page."""

    def page(audit=None, **options):
        folder = tmp_path / "first"
        if audit is None:
            write_run(folder, **{"splits": (), "epochs": 0, **options})
        else:
            write_audit(folder, audit)
        return read_page(write_report([folder]))

    return page


def test_accuracy_comes_first_and_with_its_interval(reports):
    page, result = reports["whole"].page, json.loads((reports["whole"].folder / "result.json").read_text())
    test = result["test"]
    low, high = (f"{100 * end:.1f}" for end in test["accuracy_ci95"])
    highlight = page.all("dl")[0].text
    assert highlight.startswith(f"Test accuracy{100 * test['accuracy']:.1f} %95 % interval {low} to {high} %, 60 examples")
    rows = page.table("Metrics of the selected weights")
    assert [row[0] for row in rows] == ["split", "train", "val", "test"]
    assert rows[3][1:3] == ["60", f"{100 * test['accuracy']:.1f} % ({low} to {high} %)"]
    assert rows[3][4] == f"{test['nll']:.3f}"


def test_run_data_network_and_method_are_named(reports):
    facts = reports["whole"].page.facts("What was trained")
    assert facts["Data"] == "photos; 2 classes; 195 train, 60 val, 60 test"
    assert facts["Network"] == "demo:glyphnet, 124490 parameters"
    assert facts["Method"] == "adarand"
    assert facts["Weights"] == "weights of epoch 3, selected by val-accuracy"
    assert facts["Started from"] == "demo:glyphnet as it comes"


def test_a_method_is_named_with_its_weight_and_plain_only_alone(report):
    page = report(config={"method": [{"name": "plain"}, {"name": "adarand", "weight": 0.5}, {"name": "l2-sp"}]})
    assert page.facts("What was trained")["Method"] == "adarand (weight 0.5) + l2-sp"


@pytest.mark.parametrize(("method", "words"), [([{"name": "plain"}], "plain"), (None, "method not recorded"), ({"name": 3}, "{'name': 3}")])
def test_other_forms_of_method(report, method, words):
    assert report(config={"method": method}).facts("What was trained")["Method"] == words


def test_training_tells_each_term_with_its_weight(reports):
    section = reports["whole"].page.section("training")
    loss = section.all("svg")[0].attributes["aria-label"]
    assert "training, in all goes from 1.07 in epoch 1" in loss
    assert "0.125 × adarand goes from 0.4 in epoch 1 to 0.4 in epoch 4" in loss
    assert "cross-entropy goes from 0.67 " in loss
    assert "validation goes from 0.97 in epoch 1" in loss
    numbers = section.table("One row an epoch")
    assert numbers[0][:4] == ["epoch", "step", "lr", "loss"]
    assert len(numbers) == 5


def test_accuracy_of_each_class_is_counted_from_the_predictions(reports):
    with np.load(reports["whole"].folder / "predictions.npz") as stored:
        predicted, labels = stored["test_logits"].argmax(axis=1), stored["test_labels"]
    rows = reports["whole"].page.table("Accuracy by class")
    for number, name in enumerate(("ants", "bees")):
        right = int(((labels == number) & (predicted == number)).sum())
        assert rows[number + 1][:4] == [name, "30", str(right), f"{100 * right / 30:.1f} %"]
    matrix = reports["whole"].page.table("Confusion matrix")
    for true in range(2):
        counts = [str(int(((labels == true) & (predicted == other)).sum())) for other in range(2)]
        assert matrix[true + 1][1:] == [count.replace("0", "·") if count == "0" else count for count in counts]


def test_many_classes_show_the_lowest_and_the_most_frequent_confusions(reports):
    page = reports["many"].page
    lowest = page.table("The 20 classes with the lowest accuracy")
    shares = [float(row[3].split()[0]) for row in lowest[1:]]
    assert len(shares) == 20
    assert shares == sorted(shares)
    assert len(page.table("Accuracy by class")) == 301
    times = [int(row[2]) for row in page.table("The most frequent confusions")[1:]]
    assert times == sorted(times, reverse=True)
    assert not any(table.text.startswith("Confusion matrix") for table in page.all("table"))
    assert "all other classes" in page.section("features").text


def test_a_run_without_test_is_judged_by_validation_and_says_so(report):
    page = report(splits=("val",))
    assert page.all("dl")[0].text.startswith("Validation accuracy")
    assert "There is no test split" in page.section("results").text
    assert "on the val split" in page.section("classes").text


def test_a_run_of_training_metrics_alone_says_that_they_say_little(reports):
    page = reports["bare"].page
    assert page.all("dl")[0].text.startswith("Training accuracy")
    assert "Only training examples were measured" in page.text
    assert [section.attributes["id"] for section in page.all("section")] == ["results", "audit", "cost", "repeat"]
    assert "holdfast audit " in page.section("audit").text


def test_the_command_that_repeats_is_quoted_for_a_shell(reports):
    command = reports["<i>hostile"].page.section("repeat").all("code")[0].text
    assert command == f"holdfast fit --config '{reports['<i>hostile'].folder / 'config.yaml'}' --out NEW"


def test_a_run_of_another_loop_is_not_told_to_be_repeatable(tmp_path):
    write_run(tmp_path / "own", splits=(), epochs=0)
    (tmp_path / "own" / "config.yaml").write_text("note: made by hand\n")
    page = read_page(write_report([tmp_path / "own"]))
    assert "which holdfast cannot repeat" in page.section("repeat").text
    assert not page.section("repeat").all("code")
    assert page.facts("What was trained")["Data"].startswith("data not recorded")


def test_calibration_agrees_with_the_predictions(reports):
    with np.load(reports["whole"].folder / "predictions.npz") as stored:
        logits, labels = stored["test_logits"].astype(float), stored["test_labels"]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    error = sum(
        abs(confidence[inside].sum() - right[inside].sum()) / len(labels)
        for low in range(15)
        if (inside := (confidence > low / 15) & (confidence <= (low + 1) / 15)).any()
    )
    assert f"confidence and accuracy differ by {100 * error:.1f} % on average" in reports["whole"].page.section("calibration").text


def test_layers_show_distance_and_curvature_with_errors(reports):
    rows = reports["whole"].page.table("Layers in the order of the network")
    assert rows[1] == ["conv1", "1152", "0.200", "2.2 %", "0.900", "0.100", "11.0 ± 1.4 not met", "0.300 ± 0.039", "-0.200", "4.8 %"]
    facts = reports["whole"].page.facts("Over all layers")
    assert facts["Trace of the Hessian"] == "412 ± 61"
    assert facts["Curvature along the move, positive part"] == "3.60 (not as exact as asked)"
    assert facts["Distance over the measured layers"] == "3.21 (Frobenius), 14.6 % of the source's size"


def test_of_many_layers_only_the_sharpest_are_drawn_and_all_listed(reports):
    page = reports["many"].page
    assert "Drawn are the 40 layers of 50" in page.section("layers").text
    assert len(page.table("Layers in the order of the network")) == 51


def test_a_vacuous_bound_is_called_so_in_plain_words(reports):
    whole, other = (reports[kind].page for kind in ("whole", "audit-only"))
    assert "This bound is vacuous: it says that the expected loss is at most 5.69 nats" in whole.section("bound").text
    assert "says nothing about how well this network will do" in whole.section("bound").text
    assert "says nothing here (vacuous)" in whole.all("dl")[0].text
    assert "vacuous" not in other.text
    assert "at most 3.20 nats, where 5.40 would be the worst possible" in other.section("bound").text


def test_a_bound_above_guessing_is_called_empty_too(report):
    audit = {**audit_of(vacuous=False), "features": None, "spectrum": None, "layers": []}
    assert "Guessing among the 2 classes loses 0.693" in report(audit).section("bound").text
    audit["bound"]["bound"], audit["gap"]["test_loss"] = 0.6, 0.5
    assert "Guessing" not in report(audit).section("bound").text


def test_a_bound_below_the_test_loss_is_said_not_to_hold(report):
    audit = {**audit_of(vacuous=False), "features": None, "spectrum": None, "layers": []}
    audit["bound"]["bound"], audit["gap"]["test_loss"] = 0.6, 0.7
    assert "on the test split it is 0.700, which is more: the assumptions do not hold" in report(audit).section("bound").text


def test_assumptions_and_notes_are_listed_in_full(reports):
    page = reports["whole"].page
    assert [item.text for item in page.section("bound").all("li")] == audit_of()["bound"]["assumptions"]
    assert [item.text for item in page.section("notes").all("li")] == audit_of()["notes"]
    assert page.section("notes").all("code")[0].text == f"holdfast audit {reports['whole'].folder} --full"


def test_noise_stability_says_how_far_the_prediction_holds(reports, report):
    assert "within a quarter up to a noise of 0.005, and not beyond" in reports["whole"].page.section("stability").text
    audit = {**audit_of(), "features": None, "spectrum": None, "layers": []}
    for entry in audit["noise_stability"]:
        entry["ratio"] = 3.0
    assert "do not foresee it at any scale" in report(audit).section("stability").text


def test_features_before_and_after_stand_side_by_side(reports):
    section = reports["whole"].page.section("features")
    assert [caption.text for caption in section.all("figcaption")] == ["Before: the pretrained network", "After: the fine-tuned network"]
    assert section.table("Features in numbers")[5] == ["mutual information, nats", "26.5", "33.7", "+7.2"]
    assert [item.text for item in section.all("li")] == ["● ants", "■ bees"]


def test_an_audit_without_a_run_is_reported(reports):
    page = reports["audit-only"].page
    assert page.all("dl")[0].text.startswith("Test accuracy81.7 %95 % interval 74.8 to 87.0 %, 153 examples")
    assert "no run to repeat" in page.section("repeat").text
    assert page.section("calibration").text


OPTIONAL = ("spectrum", "bound", "features", "calibration")


def test_parts_that_were_not_measured_are_left_out(report):
    audit = audit_of()
    audit.update(dict.fromkeys(OPTIONAL), layers=[], noise_stability=[], notes=[], batchnorm=[])
    for part in ("totals", "gap", "cost"):
        audit[part] = dict.fromkeys(audit[part])
    page = report(audit)
    assert [section.attributes["id"] for section in page.all("section")] == ["results", "notes", "repeat"]
    assert "everything asked for was measured" in page.section("notes").text


def nulled(value):
    """Every number and word in it gone, its lists and keys left."""
    if isinstance(value, dict):
        return {key: nulled(entry) for key, entry in value.items()}
    return [nulled(entry) for entry in value] if isinstance(value, list) else None


def test_null_in_any_place_is_a_dash_and_never_an_error(report):
    audit = audit_of()
    parts = (
        "subject",
        "settings",
        "layers",
        "totals",
        "batchnorm",
        "spectrum",
        "noise_stability",
        "bound",
        "gap",
        "features",
        "calibration",
    )
    audit.update({part: nulled(audit[part]) for part in parts})
    page = report(audit)
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_values_of_another_kind_are_dashes_too(report):
    audit = audit_of()
    audit["layers"][0].update(frob="<b>", hessian_distance_psd={"value": "a", "stderr": [], "met": 3}, clipped="yes")
    audit["totals"].update(l2=[], trace={"value": 7.0, "stderr": "a", "met": True})
    audit["features"]["pca"] = {"labels": "no", "reference": 3, "model": {"points": [[1], "a", None]}}
    audit["spectrum"]["density"] = {"grid": [1, None, "a"], "values": [None]}
    page = report(audit)
    assert not page.all("b")
    assert page.facts("Over all layers")["Trace of the Hessian"] == "7.00"


def test_logits_that_are_not_finite_and_labels_outside_are_left_out_and_counted(tmp_path):
    run = write_run(tmp_path / "first", examples=20, epochs=0)
    predictions = run.load_predictions()
    logits, labels = predictions["test"].logits.copy(), predictions["test"].labels.copy()
    logits[0, 0], labels[1], labels[2] = np.nan, 7, -1
    run.save_predictions({"test": (logits, labels, predictions["test"].ids)})
    page = read_page(write_report([run.path]))
    assert "3 examples are left out" in page.section("classes").text
    assert sum(int(row[1]) for row in page.table("Accuracy by class")[1:]) == 17


def test_a_class_without_examples_has_no_accuracy(tmp_path):
    run = write_run(tmp_path / "first", classes=("ants", "bees", "wasps"), examples=2, epochs=0)
    rows = read_page(write_report([run.path])).table("Accuracy by class")
    assert rows[3] == ["wasps", "0", "0", "-", "-", "-"]


def test_runs_side_by_side_have_a_row_each_and_a_part_each(reports):
    page = reports["together"].page
    rows = page.table("Results; ")
    assert [row[0] for row in rows[1:]] == ["<i>hostile", "bare", "audit-only"]
    assert rows[1][2] == "test"
    assert rows[2][2] == "train"
    assert "All fine-tune demo:glyphnet." in page.section("comparison").text
    assert "Not all were judged on the same kind of split" in page.section("comparison").text
    assert len(page.all("article")) == 3
    audits = page.table("Audits; ")
    assert audits[1][-1] == "5.69 vacuous"
    assert audits[3][-1] == "3.20"
    assert audits[2][1:] == ["-"] * 7


def test_runs_of_other_data_are_not_to_be_compared(tmp_path):
    folders = [write_run(tmp_path / name, splits=(), epochs=0).path for name in ("a", "b")]
    same = read_page(write_report(folders, tmp_path / "same.html"))
    assert "different data" not in same.text
    result = json.loads((folders[1] / "result.json").read_text())
    result["data"]["fingerprint"] = "other"
    (folders[1] / "result.json").write_text(json.dumps(result))
    other = read_page(write_report(folders, tmp_path / "other.html"))
    assert "These runs have different data or splits" in other.section("comparison").text


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    folders = [write_run(tmp_path / name / "seed0", splits=(), epochs=0).path for name in ("a", "b")]
    page = read_page(write_report(folders, tmp_path / "all.html"))
    assert [row[0] for row in page.table("Results; ")[1:]] == [str(folder) for folder in folders]
