"""What the hand-written pages tell a reader to type works as typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(shell|python)\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def run(language: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a reader would, in the environment of the tests."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-e", "-c", code] if language == "shell" else [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def run_all(page: str, folder: Path) -> list[str]:
    """What the blocks of a page print, one after the other, with few epochs."""
    output = []
    for language, code in blocks(page):
        process = run(language, code.replace("--epochs 20", "--epochs 1"), folder)
        assert process.returncode == 0, f"{code}\n{process.stdout}{process.stderr}"
        output.append(process.stdout)
    return output


@pytest.mark.slow
def test_start_in_five_minutes_works_as_typed(tmp_path):
    assert len(blocks("start.md")) >= 8
    output = run_all("start.md", tmp_path)
    assert "accuracy (95 % interval)" in output[0]
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 6
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"first", "plain", "second"}


@pytest.mark.slow
def test_choosing_the_weight_works_as_typed(tmp_path):
    output = run_all("choosing-the-weight.md", tmp_path)
    assert [line.split()[0] for line in output[-1].splitlines()] == ["0.03", "0.25", "1"]


@pytest.mark.slow
def test_the_first_method_of_ones_own_works_as_typed(tmp_path):
    (_, code), (_, commands), (_, test), *_ = blocks("own-method.md")
    (tmp_path / "small_features.py").write_text(code)
    shutil.copy(ROOT / "tests" / "plugins" / "class_mean.py", tmp_path)
    process = run("shell", commands, tmp_path)
    assert process.returncode == 0, process.stderr
    assert "pulls features towards zero" in process.stdout
    assert (tmp_path / "runs" / "small" / "result.json").exists()
    (tmp_path / "test_class_mean.py").write_text(test)
    assert run("shell", "python -m pytest -q -p no:cacheprovider test_class_mean.py", tmp_path).returncode == 0


def test_commands_for_ones_own_images_are_ones_that_holdfast_knows(capsys):
    text = (DOCS / "start.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^holdfast fit cars .*$", text, flags=re.MULTILINE)
    assert main([*command.split()[1:], "--method.alpha", "2"]) == 2  # the last of what is looked at, so all else is understood
    assert "--method.alpha: expected a number from 0 to 1" in capsys.readouterr().err


def test_the_loop_of_the_documentation_is_that_of_the_readme():
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/api/loop.md"))
    (shown,), (tested,) = (re.findall(r"```python\n(from holdfast import attach.*?)```", text, flags=re.DOTALL) for text in (page, readme))
    assert shown == re.sub(r"  # .*", "", tested)


@pytest.mark.slow
def test_wrong_labels_works_as_typed(tmp_path):
    output = run_all("wrong-labels.md", tmp_path)
    assert "of 1257 training labels are wrong now" in output[0]
    assert (tmp_path / "noisy" / "sheet.html").read_text().count("data:image/png") == 200
    assert output[-1].startswith("confident-joint [[0.7, ")


@pytest.mark.slow
def test_auditing_works_as_typed(tmp_path):
    output = run_all("audit.md", tmp_path)
    assert "Written: runs/audited/audit.json" in output[0]
    moved, curved, vacuous = output[1].split()
    assert float(moved) > 0
    assert float(curved) > 0
    assert vacuous in ("True", "False")


@pytest.mark.slow
def test_watching_and_planning_a_run_works_as_typed(tmp_path):
    output = run_all("tracking.md", tmp_path)
    assert "Plan of runs/planned: nothing has been written." in output[0]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"tracked", "heard"}
    assert (tmp_path / "runs" / "tracked" / "metrics.csv").read_text().startswith("step,epoch,name,value")
    assert [line.split()[0] for line in output[-1].splitlines()] == ["1", "2"]


@pytest.mark.slow
def test_the_report_works_as_typed(tmp_path):
    output = run_all("report.md", tmp_path)
    assert "Report: runs/adarand/report.html" in output[0]
    assert output[1] == "plain-adarand.html\n"
    assert "<h1>2 runs</h1>" in (tmp_path / "plain-adarand.html").read_text(encoding="utf-8")
