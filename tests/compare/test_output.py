"""The files of a comparison: a table for spreadsheets, tables for papers."""

from __future__ import annotations

import csv
import errno
import io

import pytest
from tests.compare.rows import cell, row, rows, write_run
from tests.compare.test_summary import PLAIN, grid, settings_of

from holdfast.compare import output
from holdfast.compare.cells import Setting
from holdfast.compare.latex import escaped, latex_text
from holdfast.compare.output import write_comparison
from holdfast.compare.record_file import read_comparison
from holdfast.compare.summary import compare_rows, summarize
from holdfast.compare.table import csv_text
from holdfast.errors import RunError


def table_of(comparison):
    return list(csv.DictReader(io.StringIO(csv_text(comparison))))


def test_the_table_has_one_row_a_run_with_its_selections():
    runs = [row("plain", 0.75, 4, 2), row("a,b", 0.8, trial="k=1", tuning=True, extra_data=("x", "y"))]
    first, second = table_of(compare_rows(runs))
    assert (first["method"], first["seed"], first["data_seed"], first["tuning"], first["run"]) == (
        *("plain", "4", "2", "no", "runs/plain-photos-2-s4"),
    )
    assert (first["test_accuracy"], first["val_accuracy"], first["selected_by"], first["epoch"]) == ("0.75", "0.75", "val-accuracy", "3")
    assert (first["test_accuracy_last"], first["test_accuracy_val_accuracy"]) == ("0.74", "0.75")
    assert 0.6 < float(first["test_accuracy_low"]) < 0.75 < float(first["test_accuracy_high"]) < 0.9
    assert (second["method"], second["trial"], second["tuning"], second["extra_data"]) == ("a,b", "k=1", "yes", "x; y")


def test_what_is_not_known_is_an_empty_cell():
    (found,) = table_of(compare_rows([row("plain", None)]))
    assert (found["test_accuracy"], found["test_accuracy_low"], found["fraction"]) == ("", "", "")


def lines_of(text):
    """Cells of each line of all tables."""
    return [[part.strip() for part in line.removesuffix(" \\\\").split(" & ")] for line in text.splitlines() if line.endswith(" \\\\")]


def test_the_latex_table_has_bold_best_intervals_and_verdicts():
    better = [value + 0.04 + 0.001 * place for place, value in enumerate(PLAIN)]
    text = latex_text(compare_rows(rows({"plain": PLAIN, "adarand": better})))
    _, plain, adarand = lines_of(text)
    assert plain == ["plain", "81.00 [79.04, 82.96]", "--", "--", "--", "0.5"]
    assert adarand[:2] == ["adarand", r"\textbf{85.20} [83.17, 87.23]"]
    assert adarand[2].startswith("$+4.20$ [$+4.00$, $+4.40$]")
    assert adarand[3:] == ["$<$0.001", "better", "0.5"]
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_names_in_latex_are_escaped():
    hostile = 'a_b & 50 % $x$ #1 {y} ~^\\\n<|>"'
    text = latex_text(compare_rows([*rows({"plain": PLAIN, hostile: PLAIN}, setting=Setting("d_1/%", "timm:x_y"))]))
    assert r"a\_b \& 50 \% \$x\$ \#1 \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textbar{}\textgreater{}" in text
    assert r"d\_1/\% with timm:x\_y" in text
    assert "\x00" not in escaped("\x00")


def test_every_pair_has_a_table_of_its_own():
    text = latex_text(compare_rows(rows({"plain": PLAIN, "b": PLAIN, "c": PLAIN}), every_pair=True))
    assert text.count(r"\begin{tabular}") == 2
    assert ["c", "b", "$+0.00$", "--", "no difference shown", "0/5/0"] in lines_of(text)
    assert "correction over 3 pairs" in text


def test_a_verdict_for_these_draws_alone_has_a_star():
    text = latex_text(compare_rows(grid([0.0, 0.02, 0.05])))
    assert lines_of(text)[2][4] == "better$^*$"
    assert "$^*$For the draws of the data" in text


def test_several_settings_end_in_mean_ranks():
    text = latex_text(compare_rows(settings_of([0.02, 0.03])))
    assert text.count(r"\begin{tabular}") == 3
    assert ["bss", "83.07", "84.07", "1.00"] in lines_of(text)
    assert "Critical difference of mean ranks (Nemenyi, 5\\,\\%): 2.34" in text


def test_a_single_run_has_no_interval_in_latex():
    assert ["plain", r"\textbf{80.00}", "--", "--", "--", "0.5"] in lines_of(latex_text(compare_rows([row("plain", 0.8)])))


def test_all_files_are_written_and_read_again(tmp_path):
    cells = [cell(name, seed) for name in ("plain", "bss") for seed in (0, 1)]
    for own in cells:
        write_run(tmp_path, own, 30 + own.seed)
    comparison = summarize(cells, tmp_path)
    write_comparison(tmp_path, comparison)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"comparison.{kind}" for kind in ("csv", "json", "tex")), "runs"]
    assert read_comparison(tmp_path) == comparison


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write '.*comparison\.json'"):
        write_comparison(tmp_path / "file", compare_rows(rows({"plain": PLAIN})))


def test_a_full_disk_says_that_runs_are_kept(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output, "atomic_write", full)
    with pytest.raises(RunError, match=r"no space left for .*comparison\.json'; .* finished runs are kept"):
        write_comparison(tmp_path, compare_rows(rows({"plain": PLAIN})))
