"""From run directories to rows, and what is said where they are not alike."""

from __future__ import annotations

import json

import pytest
from tests.compare.rows import cell, write_run

from holdfast.compare.cells import Outcome
from holdfast.compare.collect import collect
from holdfast.compare.summary import summarize
from holdfast.errors import DataError, RunError


def rewrite(run, change):
    """Change the stored result without asking the schema."""
    file = run.path / "result.json"
    result = json.loads(file.read_text())
    change(result)
    file.write_text(json.dumps(result))


def test_a_row_holds_what_the_run_reached_and_took(tmp_path):
    own = cell("adarand", 3, 1, trial="weight=1")
    write_run(tmp_path, own, 30)
    (row,), failures, notes = collect([own], tmp_path)
    assert (row.method, row.setting, row.seed, row.data_seed, row.trial, row.tuning) == ("adarand", own.setting, 3, 1, "weight=1", False)
    assert (tmp_path / row.run / "result.json").is_file()
    assert (row.accuracy, row.metrics.test.n, row.metrics.test.macro_f1, row.metrics.test.nll, row.metrics.test.ece) == (
        *(0.75, 40, 0.75, 0.5, 0.1),
    )
    assert row.metrics.val.accuracy == 0.75
    assert [(entry.by, entry.epoch, entry.optimistic) for entry in row.metrics.selections] == [
        ("val-accuracy", 2, False),
        ("last", 3, False),
    ]
    assert (row.cost.device, row.cost.steps, row.cost.seconds_per_step, row.cost.seconds_total) == ("cpu", 9, 0.3, 3.0)
    assert (row.cost.peak_memory_mib, row.cost.extra_data) == (800.0, ())
    assert (failures, notes) == ([], [])


def test_the_best_epoch_by_test_is_marked_optimistic(tmp_path):
    own = cell("plain")
    run = write_run(tmp_path, own, 30)
    best = {**run.result["selections"][1], "by": "best-by-test"}
    rewrite(run, lambda result: result["selections"].append(best))
    (row,), *_ = collect([own], tmp_path)
    assert [entry.by for entry in row.metrics.selections if entry.optimistic] == ["best-by-test"]


def test_source_data_and_clean_labels_of_validation_are_extra_data(tmp_path):
    cells = [cell("uot"), cell("plain", 0, 1)]
    write_run(tmp_path, cells[0], 30, config={"source_data": "big/"}, val_labels="clean")
    write_run(tmp_path, cells[1], 30)
    (uot, plain), *_ = collect(cells, tmp_path)
    assert uot.cost.extra_data == ("source data big/", "clean labels of validation")
    assert plain.cost.extra_data == ()


def test_clean_labels_that_nothing_was_chosen_by_are_no_extra_data(tmp_path):
    own = cell("plain")
    run = write_run(tmp_path, own, 30, val_labels="clean")
    rewrite(run, lambda result: result["selections"].reverse())
    (row,), *_ = collect([own], tmp_path)
    assert row.cost.extra_data == ()


def test_unfinished_and_absent_runs_are_failures_with_their_sentence(tmp_path):
    cells = [cell("plain"), cell("bss"), cell("delta", 1), cell("l2-sp")]
    write_run(tmp_path, cells[0], 30)
    rewrite(write_run(tmp_path, cells[1], 30), lambda result: result.update(finished=False))
    (tmp_path / "runs" / cells[2].key).mkdir()
    rows, failures, _ = collect(cells, tmp_path, [Outcome(cells[2], "it ran out of memory", 3.0, 2)])
    assert [row.method for row in rows] == ["plain"]
    assert [(entry.method, entry.seed, entry.error) for entry in failures] == [
        *(("bss", 0, None), ("delta", 1, "it ran out of memory"), ("l2-sp", 0, None))
    ]


def test_results_of_different_schemas_are_not_compared(tmp_path):
    cells = [cell("plain"), cell("bss")]
    runs = [write_run(tmp_path, own, 30) for own in cells]
    rewrite(runs[1], lambda result: result.update(schema=2))
    with pytest.raises(RunError, match=r"different schemas, 1 in runs/plain-photos-d0-s0 and 2 in runs/bss-photos-d0-s0: .* delete"):
        collect(cells, tmp_path)


def test_results_of_another_schema_name_the_run(tmp_path):
    own = cell("plain")
    rewrite(write_run(tmp_path, own, 30), lambda result: result.update(schema=2))
    with pytest.raises(RunError, match=r"runs/plain-photos-d0-s0: result\.json: schema is 2, expected 1"):
        collect([own], tmp_path)


def test_a_damaged_result_is_one_sentence(tmp_path):
    own = cell("plain")
    (write_run(tmp_path, own, 30).path / "result.json").write_text('{"schema": 1,')
    with pytest.raises(RunError, match=r"result\.json' is damaged"):
        collect([own], tmp_path)


def test_a_run_without_test_examples_is_refused(tmp_path):
    own = cell("plain")
    write_run(tmp_path, own, 30, test=False)
    with pytest.raises(DataError, match=r"\(plain\) has no test split, .* --test-split val"):
        collect([own], tmp_path)


def test_runs_tested_on_other_examples_are_no_pair(tmp_path):
    cells = [cell("plain"), cell("bss")]
    for own, n in zip(cells, (40, 50), strict=True):
        write_run(tmp_path, own, 30, n=n)
    with pytest.raises(DataError, match=r"\(bss\) was tested on 50 examples and .*\(plain\) on 40"):
        collect(cells, tmp_path)


def test_data_seeds_may_have_test_splits_of_different_sizes(tmp_path):
    cells = [cell("plain", 0, 0), cell("plain", 0, 1)]
    for own, n in zip(cells, (40, 50), strict=True):
        write_run(tmp_path, own, 30, n=n)
    rows, _, notes = collect(cells, tmp_path)
    assert (len(rows), notes) == (2, [])


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("data", "fingerprint", "training data or labels are not the same"),
        ("model", "reference_fingerprint", "different pretrained weights"),
    ],
)
def test_what_differs_beside_the_method_is_said_once(tmp_path, section, key, words):
    cells = [cell(name, seed) for name in ("plain", "bss") for seed in (0, 1)]
    for own in cells:
        run = write_run(tmp_path, own, 30)
        if own.method == "bss":
            rewrite(run, lambda result: result[section].update({key: "other"}))
    *_, notes = collect(cells, tmp_path)
    (note,) = notes
    assert note.startswith("bss and plain on photos: ")
    assert words in note


def test_times_of_different_devices_are_not_compared(tmp_path):
    cells = [cell("plain"), cell("bss")]
    write_run(tmp_path, cells[0], 30)
    rewrite(write_run(tmp_path, cells[1], 30), lambda result: result["cost"].update(device="cuda"))
    *_, (note,) = collect(cells, tmp_path)
    assert note == "The runs were made on different devices (cpu, cuda): do not compare their times."


def test_where_a_run_that_only_tuned_was_made_does_not_matter(tmp_path):
    cells = [cell("plain"), cell("plain", 9, trial="lr=1", tuning=True)]
    write_run(tmp_path, cells[0], 30)
    rewrite(write_run(tmp_path, cells[1], 30, n=50), lambda result: result["cost"].update(device="cuda"))
    assert collect(cells, tmp_path)[2] == []


def test_a_whole_comparison_from_directories(tmp_path):
    cells = [cell(name, seed) for name in ("plain", "bss") for seed in range(3)]
    right = {"plain": (30, 31, 29), "bss": (34, 36, 33)}
    for own in cells:
        write_run(tmp_path, own, right[own.method][own.seed])
    comparison = summarize([*cells, cell("delta")], tmp_path)
    assert (comparison.baseline, [row.name for row in comparison.methods]) == ("plain", ["plain", "bss"])
    assert [(row.a, row.n, row.verdict) for row in comparison.pairs] == [("bss", 3, "better")]
    assert comparison.notes[0].startswith("1 run is missing (0 failed)")
