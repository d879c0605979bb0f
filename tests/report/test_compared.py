"""What the page of a comparison says, against the runs it is of."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from scipy import stats
from tests.report.comparisons import RIGHT, write_comparison_of
from tests.report.examples import write_run
from tests.report.parsing import read_page

from holdfast.averaging.record import AverageRow, Averages, Group, SingleRun, to_json
from holdfast.compare.record_file import read_comparison
from holdfast.errors import CheckpointError, RunError
from holdfast.report import write_report
from holdfast.report.comparing.by_class import class_differences
from holdfast.report.comparing.curves import mean_curve
from holdfast.report.comparing.looks import color, dashes, marker
from holdfast.report.scores import Scores
from holdfast.run import Predictions, Run


@pytest.fixture(scope="module")
def page(reports):
    return reports["compared"].page


def by_first(rows):
    """Rows of a table by their first cell."""
    return {row[0]: row[1:] for row in rows[1:]}


def test_the_page_goes_beside_the_record(reports):
    assert reports["compared"].file == reports["compared"].folder / "comparison.html"


def test_methods_have_accuracy_difference_and_verdict(page):
    rows = by_first(page.table("Methods"))
    shares = {name: np.array(counts) / 70 for name, counts in RIGHT.items()}
    interval = stats.ttest_rel(shares["adarand"], shares["plain"]).confidence_interval()
    mean = 100 * (shares["adarand"] - shares["plain"]).mean()
    assert rows["adarand"][3] == f"{mean:+.2f} ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"
    assert {name: row[5] for name, row in rows.items()} == {
        **{"plain": "-", "adarand": "better", "bss": "worse", "uot": "no difference shown"},
    }
    assert rows["adarand"][6] == "4, 0, 0"
    assert rows["plain"][1].startswith(f"{100 * shares['plain'].mean():.1f} % (")


def test_what_is_shown_stands_on_top(page):
    (highlights,) = page.all("dl")
    assert "Shown to be better than plain" in highlights.text
    assert "1 of 3" in highlights.text
    assert "adarand" in highlights.text


def test_figures_say_what_is_in_them(page):
    told = [drawing.attributes["aria-label"] for drawing in page.all("svg", role="img")]
    (accuracies,) = [text for text in told if text.startswith("Dot plot of test accuracy")]
    (differences,) = [text for text in told if text.startswith("Dot plot of differences")]
    assert all(name in accuracies for name in RIGHT)
    assert "adarand against plain" in differences
    assert "bss against plain" in differences
    assert any(text.startswith("Scatter plot of test accuracy against time") for text in told)
    assert sum(text.startswith("Line chart") for text in told) == 2  # these histories have no loss of validation


def test_costs_name_other_data_and_the_search(page):
    rows = by_first(page.table("Cost"))
    assert rows["uot"][4] == "source data big"
    assert rows["plain"][4:] == ["none", "0", "-"]
    assert rows["adarand"][:2] == ["300", "1.00"]
    assert rows["adarand"][5:] == ["2", "6.0 s"]


def test_trials_are_published_with_the_chosen_one(page):
    rows = page.table("Trials")[1:]
    assert rows == [["adarand", "weight=1", "1", "78.6 %", "yes"], ["adarand", "weight=8", "1", "77.1 %", ""]]


def test_the_best_epoch_by_test_is_marked_optimistic(page):
    assert page.table("Test accuracy by selection")[0] == ["method", "val-accuracy", "last", "best-by-test (optimistic)"]
    assert "chosen by the test examples themselves" in page.section("selections").text


def test_differences_by_class_are_counted_over_seeds(page, reports):
    rows = by_first(page.table("Accuracy of plain, and how many points"))
    expected = []
    for seed in range(4):
        accuracy = {}
        for name in ("plain", "adarand"):
            comparison = read_comparison(reports["compared"].folder)
            (own,) = [run for run in comparison.runs if (run.method, run.seed, run.tuning) == (name, seed, False)]
            predictions = Run.open(reports["compared"].folder / own.run).load_predictions()["test"]
            of_class = predictions.labels == 2
            accuracy[name] = (predictions.logits.argmax(1)[of_class] == 2).mean()
        expected.append(accuracy["adarand"] - accuracy["plain"])
    assert rows["cats"][2] == f"{100 * np.mean(expected):+.2f}"
    assert rows["cats"][0] == "17"


def test_missing_runs_are_listed_with_their_reason(page):
    assert page.table("Runs that are not there")[1] == ["uot", "photos", "9", "0", "", "it ran out of memory"]
    assert "1 run is missing (1 failed)" in page.section("failures").text


def test_every_run_is_on_a_line(page):
    assert len(page.table("One line a run")) == 1 + 4 * 4 + 2


def test_the_page_says_how_to_go_on(page, reports):
    folder = reports["compared"].folder
    assert page.section("repeat").all("code")[0].text == f"holdfast compare --config {folder / 'comparison.yaml'} --out {folder}"


def test_several_settings_have_a_part_each_and_one_for_all(reports):
    page = reports["<u>several"].page
    assert len(page.all("article")) == 3
    assert page.section("run-1-together").all("table")
    rows = page.table("Pairs over settings")
    assert rows[1][2:6] == ["2, 0, 0", "2, 0", "2", "+7.86"]
    assert "needs 6 datasets, and 2 have both" in page.section("run-1-together").text


def test_every_pair_has_a_table(reports):
    assert len(reports["<u>several"].page.section("run-1-setting-2-verdicts").table("Every pair")) == 1 + 10


def test_a_verdict_for_these_draws_alone_is_flagged(tmp_path):
    # By data seed the numbers are the same, so each method has two draws with equal means: no interval over them confirms anything.
    write_comparison_of(tmp_path / "c", RIGHT, data_seeds=(0, 1), search=False)
    rows = by_first(read_page(write_report([tmp_path / "c"])).table("Methods"))
    assert rows["adarand"][5] == "better these draws"


def test_a_comparison_and_runs_share_a_page(reports, tmp_path):
    run = write_run(tmp_path / "first", splits=(), epochs=0).path
    page = read_page(write_report([reports["compared"].folder, run], tmp_path / "both.html"))
    assert [node.text for node in page.all("h1")] == ["2 comparisons and runs"]
    assert len(page.all("article")) == 2


def test_the_same_files_give_the_same_bytes(reports, tmp_path):
    file = write_report([reports["compared"].folder], tmp_path / "again.html")
    assert file.read_bytes() == reports["compared"].file.read_bytes()


def test_runs_that_are_gone_leave_out_what_only_they_tell(tmp_path):
    folder = write_comparison_of(tmp_path / "c", RIGHT)
    shutil.rmtree(folder / "runs")
    page = read_page(write_report([folder]))
    names = {section.attributes["id"] for section in page.all("section")}
    assert {"verdicts", "costs", "runs"} <= names
    assert not {"curves", "by-class"} & names


def test_damaged_predictions_are_named(tmp_path):
    folder = write_comparison_of(tmp_path / "c", {"plain": (50,), "bss": (51,)}, search=False)
    next((folder / "runs").glob("plain*/predictions.npz")).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match=r"predictions\.npz' is damaged"):
        write_report([folder])


def test_a_record_of_another_schema_is_named(tmp_path):
    (tmp_path / "comparison.json").write_text('{"schema": 7}')
    with pytest.raises(RunError, match="has schema 7, expected 1"):
        write_report([tmp_path])


def test_a_mean_curve_is_over_the_epochs_that_all_runs_have():
    histories = [
        [{"epoch": 1, "a": 1.0}, {"epoch": 2, "a": 4.0}, {"epoch": 3, "a": 9.0}],
        [{"epoch": 1, "a": 3.0}, {"epoch": 2, "a": None}],
    ]
    assert mean_curve(histories, "a") == [(1, 2.0)]
    assert mean_curve([], "a") == mean_curve(histories, "b") == []


def scores_of(labels, predicted, classes=3):
    found = Scores.of("test", Predictions(np.eye(classes)[predicted], np.array(labels), np.array(["x"] * len(labels))), classes)
    assert found is not None
    return found


def test_class_differences_leave_out_classes_without_examples():
    base = {(0, 0): scores_of([0, 0, 1], [0, 1, 1]), (0, 1): scores_of([0, 1, 1], [1, 1, 0]), (5, 5): scores_of([2], [2])}
    mine = {(0, 0): scores_of([0, 0, 1], [0, 0, 0]), (0, 1): scores_of([0, 1, 1], [1, 1, 1])}
    assert np.array_equal(class_differences(mine, base), [0.25, -0.25, np.nan], equal_nan=True)
    assert class_differences(mine, {}) is None
    assert class_differences({(0, 0): scores_of([0], [0], classes=2)}, base) is None


def test_the_first_methods_are_told_apart():
    assert len({(color(place), marker(place)) for place in range(64)}) == 64
    assert len({(color(place), dashes(place)[0]) for place in range(32)}) == 32


def averaged(**changes):
    """A group of averages of the one setting of the example."""
    single = SingleRun("runs/a", "plain", 0, {"accuracy": 0.7}, {"accuracy": 0.72})
    row = AverageRow(
        kind="greedy-soup",
        methods=("plain",),
        members=("runs/a", "runs/b"),
        single=False,
        val={"accuracy": 0.8},
        test={"accuracy": 0.75, "accuracy_ci95": [0.64, 0.84]},
        best=single,
        mean_val=0.7,
        mean_test=0.71,
        difference=0.03,
        ci95=(-0.02, 0.08),
        p=0.3,
        p_holm=0.6,
        verdict="no difference shown",
    )
    return dataclasses.replace(Group("photos", "demo:glyphnet", None, 0, (single,), (row,), 0, "averages/01"), **changes)


def test_averages_stand_beside_their_runs_and_say_that_they_did_not_help(tmp_path):
    folder = write_comparison_of(tmp_path, RIGHT)
    record = read_comparison(folder).settings[0]
    place = {"data": record.data, "model": record.model, "fraction": record.fraction}
    groups = (averaged(**place), averaged(**place, data_seed=1, averages=(), saved=None, note="the runs <differ>"), averaged(data="else"))
    (folder / "averages.json").write_text(to_json(Averages(groups, 4, 1.0)))
    page = read_page(write_report([folder]))
    header, *rows = page.table("Averages beside the runs they are of, data seed 0")
    did_not_help = "did not help: no difference shown"
    assert rows == [["greedy-soup, 2 runs", "plain", "75.0 % (64.0 to 84.0)", "72.0 %", "71.0 %", "+3.0 (-2.0 to +8.0)", did_not_help]]
    assert header[:2] == ["average", "of"]
    assert "The best on validation is averages/01." in page.text
    assert "None, data seed 1: the runs <differ>" in page.text
