"""A package of somebody else's that brings a regularizer and a task loss: listed, explained, trained with, resumed, predicted with."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.installed_packages import EXAMPLE, GROUP, install_example

import holdfast
from holdfast import Run
from holdfast.build import resume
from holdfast.cli.main import main
from holdfast.errors import ConfigError
from holdfast.training.events import EpochDone

TINY = {"model": "demo:glyphnet", "shots": 2, "batch_size": 20, "epochs": 2, "flip": False, "device": "cpu", "threads": 1}

ROOT = EXAMPLE.parents[2]


@pytest.fixture
def example(tmp_path, monkeypatch, own_catalog):
    """The example package, installed; forgotten after the test."""
    site = install_example(tmp_path / "site")
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "holdfast_example"]:
        del sys.modules[name]


def in_process(site: Path, *command: str, folder: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_its_methods_are_listed_with_package_and_version_without_being_imported(tmp_path):
    code = (
        "import sys; from holdfast.cli.main import main; main(['list', 'methods']); print({'torch', 'holdfast_example'} & {*sys.modules})"
    )
    text = in_process(install_example(tmp_path), "-c", code)
    rows = [line.split(maxsplit=2) for line in text.splitlines() if "plug-in" in line]
    assert [(name, kind, source.strip()) for name, kind, source in rows] == [
        ("brier", "plug-in", "of the package holdfast-example 0.1.0"),
        ("logit-norm", "plug-in", "of the package holdfast-example 0.1.0"),
    ]
    assert text.endswith("set()\n")


def test_lists_of_losses_name_plugins_whose_kind_is_not_known_yet(example, capsys):
    assert main(["list", "losses"]) == 0
    assert "Whether these plug-ins are losses shows when they are imported: brier, logit-norm." in " ".join(capsys.readouterr().out.split())


def test_its_methods_are_explained_like_any(example, capsys):
    assert main(["explain", "logit-norm"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("regularizer", "pulls logits towards zero", "--method.weight", "--method.centred", "Package holdfast-example 0.1.0"):
        assert part in text
    assert main(["list", "methods"]) == 0
    assert capsys.readouterr().out.count("\nlogit-norm ") == 1


def test_a_run_with_its_methods_resumes_exactly_and_predicts(example, tmp_path):
    options = {**TINY, "method": "brier+logit-norm"}
    through = holdfast.fit("demo:digits", **options, out="through")

    def stop(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holdfast.fit("demo:digits", **options, out="stopped", listener=stop)
    resumed = resume("stopped")
    assert resumed.result["terms"].keys() == {"brier", "logit-norm"}
    assert resumed.result["terms"]["logit-norm"]["weight"] == 0.01
    assert (resumed.path / "model.safetensors").read_bytes() == (through.path / "model.safetensors").read_bytes()
    assert resumed.versions["holdfast-example"] == "0.1.0"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("digit.png")
    assert main(["predict", "stopped", "digit.png", "--out", "classes.csv"]) == 0
    assert len(Path("classes.csv").read_text().splitlines()) == 2


def test_a_run_whose_package_is_gone_says_which_it_was(tmp_path):
    run = Run.create(tmp_path / "run", {"data": "demo:digits", "model": "demo:glyphnet", "method": [{"name": "brier"}]})
    text = (run.path / "config.yaml").read_text().replace("  python:", "  holdfast-example: 0.1.0\n  python:")
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"unknown method 'brier'\..* The run was made with holdfast-example 0\.1\.0; install it and resume"
    ):
        resume(run.path)


def test_contributing_shows_the_package_as_it_is():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    entry_points = next(part for part in text.split("\n\n") if part.startswith("[project.entry-points"))
    assert "\n".join(f"    {line}" for line in entry_points.strip().splitlines()) in page
    files = sorted(path.relative_to(EXAMPLE) for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix in (".toml", ".py", ".md"))
    for path in files:
        assert f"{'    ' * len(path.parts)}{path.name}  " in page, path


def test_every_published_name_is_one_the_package_registers(example):
    names = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"][GROUP]
    for name in names:
        assert holdfast.catalog.method_record(name).package == "holdfast-example"


@pytest.mark.slow
def test_its_own_tests_pass(tmp_path):
    site = install_example(tmp_path)
    assert " passed" in in_process(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=EXAMPLE)
