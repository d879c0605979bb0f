"""Where the page goes, that it is whole, and what is said when it cannot be made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.report.examples import audit_of, write_audit, write_run

import holdfast
from holdfast.cli.main import main
from holdfast.errors import CheckpointError, ConfigError, RunError
from holdfast.report import write_report
from holdfast.run import Run


@pytest.fixture
def folder(tmp_path):
    """A finished run, quick to report."""
    return write_run(tmp_path / "first", splits=(), epochs=0).path


def test_the_page_of_one_directory_goes_into_it(folder):
    assert write_report([folder]) == folder / "report.html"
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_file_can_be_named(folder, tmp_path):
    assert write_report([folder], tmp_path / "x.html") == tmp_path / "x.html"
    assert not (folder / "report.html").exists()


def test_an_older_page_is_replaced(folder):
    (folder / "report.html").write_text("old")
    assert "old" not in write_report([folder]).read_text(encoding="utf-8").split()


def test_the_same_files_give_the_same_bytes_in_another_process(reports, tmp_path):
    folder, file = reports["whole"].folder, tmp_path / "again.html"
    command = [sys.executable, "-m", "holdfast", "report", str(folder), "--out", str(file)]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}, check=True, capture_output=True)
    assert file.read_bytes() == reports["whole"].file.read_bytes()


def test_a_directory_named_twice_counts_once(folder):
    assert write_report([folder, f"{folder}/"]) == folder / "report.html"


def test_the_verb_is_a_function_that_takes_runs_and_paths(folder, tmp_path):
    assert holdfast.report(str(folder)) == folder / "report.html"
    assert holdfast.report(Run.open(folder), out=tmp_path / "a.html") == tmp_path / "a.html"
    assert holdfast.report([Run.open(folder), folder], out=tmp_path / "b.html") == tmp_path / "b.html"


def test_several_directories_need_a_file(folder):
    with pytest.raises(ConfigError, match=r"^--out is missing: a report of several directories needs a file; type --out report\.html\.$"):
        write_report([folder, folder.parent / "second"])
    with pytest.raises(ConfigError, match="DIR is missing"):
        write_report([])


def test_a_directory_is_no_file_to_write(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a file, this is a directory; type --out .*report\.html\.$"):
        write_report([folder], tmp_path)


def test_a_place_that_does_not_exist_is_named(folder, tmp_path):
    with pytest.raises(
        RunError, match=r"cannot write '.*missing/x\.html': No such file or directory; choose another place with --out FILE"
    ):
        write_report([folder], tmp_path / "missing" / "x.html")


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nowhere' is no run directory: it does not exist"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(RunError, match=r"is no run directory: config\.yaml is missing"):
        write_report([tmp_path])


def test_a_run_that_has_not_finished_is_told_how_to_go_on(tmp_path):
    Run.create(tmp_path / "begun", {"lr": 0.1})
    with pytest.raises(RunError, match=r"has no result\.json: training has not finished; type `holdfast fit --resume .*begun`"):
        write_report([tmp_path / "begun"])


def test_a_result_of_another_form_is_named(folder):
    result = json.loads((folder / "result.json").read_text())
    del result["cost"]
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match=r"first': result\.json: the key 'cost' is missing"):
        write_report([folder])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged: .*make it again with `holdfast audit`"),
        ("[1]", "the whole is \\[1\\], expected keys"),
        ('{"schema": 1}', "is missing"),
    ],
)
def test_a_damaged_audit_is_named(folder, text, words):
    (folder / "audit.json").write_text(text)
    with pytest.raises(RunError, match=words):
        write_report([folder])


def test_an_audit_of_a_later_version_is_refused(folder):
    write_audit(folder, audit_of())
    audit = {**audit_of(), "schema": 2}
    (folder / "audit.json").write_text(json.dumps(audit))
    with pytest.raises(RunError, match="schema is 2, expected 1"):
        write_report([folder])


def test_damaged_predictions_are_named_and_the_old_page_stays(tmp_path):
    run = write_run(tmp_path / "first", epochs=0)
    page = write_report([run.path]).read_bytes()
    (run.path / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match=r"predictions\.npz' is damaged"):
        write_report([run.path])
    assert (run.path / "report.html").read_bytes() == page


@pytest.mark.skipif(os.name != "posix", reason="paths that are no text exist on POSIX alone")
def test_a_path_that_is_no_text_can_be_reported(tmp_path):
    folder = write_run(tmp_path / "first", splits=(), epochs=0).path.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    assert "caf\ufffd" in write_report([folder]).read_text(encoding="utf-8")


def test_the_command_says_where_the_page_is(folder, capsys):
    assert main(["report", str(folder), "--out", str(folder / "x.html")]) == 0
    assert capsys.readouterr().out == f"Report: {folder / 'x.html'}\n"


def test_the_command_answers_bad_input_with_one_sentence(folder, capsys):
    assert main(["report", str(folder), str(folder.parent)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
