"""``import holdfast``: what it offers, and that it costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import ConfigError, RunError
from holdfast.run import Run


@pytest.fixture
def calls(monkeypatch):
    """Calls of ``holdfast.build`` instead of training."""
    noted = []
    stub = types.ModuleType("holdfast.build")
    stub.__dict__.update(
        fit_config=lambda config, *, listener: noted.append(config) or "run",
        resume=lambda run, *, overrides, listener: noted.append((run, overrides)) or "run",
    )
    monkeypatch.setitem(sys.modules, "holdfast.build", stub)
    return noted


def test_fit_resolves_keywords_as_the_command_line_does(calls):
    assert holdfast.fit(Path("cars"), model="timm:resnet18", method="l2-sp", out=Path("runs/a"), epochs=3, val_fraction=0.2) == "run"
    (config,) = calls
    assert (config.data, config.model, config.out, config.epochs, config.val_fraction) == ("cars", "timm:resnet18", "runs/a", 3, 0.2)
    assert [entry["name"] for entry in config.method] == ["plain", "l2-sp"]


def test_keywords_win_over_the_file(calls, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: birds\nmodel: timm:resnet50\nmethod: adarand\nout: a\nlr: 0.5\nepochs: 7\n")
    holdfast.fit("cars", config=file, lr=0.1)
    (config,) = calls
    assert (config.data, config.model, config.lr, config.epochs, config.method[1]["name"]) == ("cars", "timm:resnet50", 0.1, 7, "adarand")


def test_resume_takes_options_of_the_machine_alone(calls):
    assert holdfast.fit(resume="runs/a", device="cpu") == "run"
    assert calls == [("runs/a", {"device": "cpu"})]
    with pytest.raises(ConfigError, match=r"^fit\(lr=\.\.\.\): a resumed run keeps its options"):
        holdfast.fit(resume="runs/a", lr=0.1)


def test_a_mistake_is_told_in_python_words(calls):
    with pytest.raises(ConfigError, match=r"^fit\(epoch=\.\.\.\): unknown option\. Did you mean 'epochs'\?$"):
        holdfast.fit("cars", model="timm:resnet18", out="a", epoch=3)
    assert calls == []


def test_load_opens_a_run(tmp_path):
    Run.create(tmp_path / "a", {"lr": 0.1})
    assert holdfast.load(tmp_path / "a").config["lr"] == 0.1
    with pytest.raises(RunError):
        holdfast.load(tmp_path / "b")


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(holdfast)
    assert not isinstance(getattr(holdfast, name), types.ModuleType)


def test_attach_is_the_function_whatever_was_imported_before():
    module = importlib.import_module("holdfast.attach")
    assert holdfast.attach is module.attach


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'holdfast' has no attribute 'fitt'"):
        _ = holdfast.fitt


def test_import_brings_no_torch():
    code = "import sys, holdfast; from holdfast import fit, load, register, __version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
