"""``holdfast audit`` as it is typed: options, what it prints, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.auditing.conftest import _settings_of_torch, finished, images

from holdfast.auditing.options import OPTIONS
from holdfast.auditing.result import Audit
from holdfast.cli import audit as verb
from holdfast.cli.audit_summary import print_audit

__all__ = ["_settings_of_torch", "finished", "images"]

QUICK = ("--budget", "90products", "--rtol", "0.9", "--device", "cpu")


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of a finished run, in the working directory."""
    shutil.copytree(finished.path, tmp_path / "tiny", ignore=shutil.ignore_patterns("audit.json", "report.html"))
    monkeypatch.chdir(tmp_path)
    return "tiny"


def test_every_option_is_in_the_help(holdfast):
    text = holdfast("audit", "--help").out
    for name, option in OPTIONS.items():
        assert f"\n  --{name.replace('_', '-')} " in text
        assert " ".join(option.help.split()[:3]) in " ".join(text.split())
    assert {name for names in verb._GROUPS.values() for name in names} == set(OPTIONS)


def test_a_run_is_audited_written_and_summed_up(holdfast, run, tmp_path):
    answer = holdfast("audit", run, *QUICK)
    assert answer.status == 0, answer.err
    record = json.loads((tmp_path / "tiny" / "audit.json").read_text())
    assert record["settings"]["products"] == 90
    titles = [line.split("  ")[0] for line in answer.out.splitlines() if line[:1].isalpha()]
    assert titles[:7] == ["Fit", "Distance", "Sharpness", "Noise", "Bound", "Features", "Confidence"]
    assert "Written: tiny/audit.json; open tiny/report.html in a browser for plots." in answer.out
    assert (tmp_path / "tiny" / "report.html").is_file()
    assert "auditing tiny: 851 parameters, 3 layers measured" in answer.err
    assert "at most 90 products" in answer.err


def test_quiet_shows_the_summary_alone_and_no_report_writes_none(holdfast, run, tmp_path):
    answer = holdfast("audit", run, *QUICK, "--quiet", "--no-report")
    assert answer.err == ""
    assert answer.out.endswith("Written: tiny/audit.json.\n")
    assert not (tmp_path / "tiny" / "report.html").exists()


def test_checkpoints_are_audited_into_a_folder(holdfast, run, images, tmp_path):
    model = "python:tests.training.small_runs:tiny_network"
    files = ("--weights", "tiny/model.safetensors", "--source", "tiny/reference.safetensors")
    answer = holdfast("audit", "--model", model, *files, "--data", str(images), "--out", "found", "--samples", "4", *QUICK)
    assert answer.status == 0, answer.err
    assert (tmp_path / "found" / "audit.json").is_file()
    assert "measured from zero" in answer.out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ((), "RUN is missing; for example: holdfast audit runs/cars."),
        (("nowhere",), "'nowhere' is no run directory: it does not exist"),
        (("tiny", "tiny"), "audit: unexpected argument 'tiny'"),
        (("tiny", "--sampels", "3"), "--sampels: unknown option. Did you mean --samples?"),
        (("tiny", "--samples", "0"), "--samples: expected a whole number of at least 1, got '0'."),
        (("tiny", "--budget", "5m"), "--budget: expected seconds such as 300, products such as 500products, or none, got '5m'."),
        (("tiny", "--over", "all"), "--over: expected one of mean, batch, sample, got 'all'."),
        (("tiny", "--p-min", "0.1", "--loss-bound", "2"), "--p-min 0.1: --loss-bound says the largest loss already"),
        (("tiny", "--model", "timm:resnet18"), "--model timm:resnet18: RUN 'tiny' has a network of its own; leave one of them out."),
        (("tiny", "--out", "there"), "--out there: the audit of a run is written into its directory; leave --out out."),
        (("tiny", "--device", "tpu"), "--device: expected auto, cpu, cuda or cuda:N, got 'tpu'."),
        (("tiny", "--layers", "blocks.*"), "--layers 'blocks.*' matches no parameter of the network."),
        (("--model", "timm:resnet18"), "--source, --data are missing; a checkpoint is audited with --model SPEC --weights FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_said_in_a_sentence(holdfast, run, argv, sentence):
    answer = holdfast("audit", *argv)
    assert answer.status == 2
    assert answer.err.splitlines()[-1].startswith(f"holdfast: error: {sentence}")
    assert "Traceback" not in answer.err


def test_a_kernel_without_second_derivative_names_the_option_of_the_command(holdfast, run, monkeypatch):
    from holdfast.errors import ModelError

    def refuse(*args, **options):
        raise ModelError("replace it, or take differences of gradients with differences=True.")

    monkeypatch.setattr("holdfast.auditing.audit.audit_with", refuse)
    assert "take differences of gradients with --differences." in holdfast("audit", run).err


def summary(record, capsys):
    print_audit(Audit(record), None)
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def record(holdfast, run, tmp_path):
    holdfast("audit", run, *QUICK, "--quiet", "--no-report")
    return json.loads((tmp_path / "tiny" / "audit.json").read_text())


def test_a_vacuous_bound_is_called_so(record, capsys):
    record["bound"] |= {"vacuous": True, "bound": 12.5, "C": 4.0, "C_from": "max_observed"}
    assert "vacuous: 12.5 is not below the largest loss seen, 4. It says nothing about this network" in summary(record, capsys)
    record["bound"] |= {"vacuous": False, "bound": 2.5, "C_from": "given"}
    assert "new examples should cost at most 2.5 on average, of the largest loss, 4," in summary(record, capsys)


def test_a_bound_that_the_test_loss_exceeds_is_said_not_to_hold(record, capsys):
    record["bound"] |= {"vacuous": False, "bound": 2.5, "C": 4.0}
    record["gap"] |= {"test_loss": 2.4, "split": "test"}
    assert "; on test they cost 2.4." in summary(record, capsys)
    record["gap"]["test_loss"] = 2.6
    assert "but on test they cost 2.6, which is more, so they do not hold here" in summary(record, capsys)


def test_noise_that_second_derivatives_do_not_predict_is_pointed_out(record, capsys):
    record["noise_stability"][2] |= {"ratio": 30.0}
    assert "which is far off: read the numbers from second derivatives with care" in summary(record, capsys)


def test_confidence_is_judged_beyond_chance_only(record, capsys):
    bins = [{"low": 0.8, "high": 0.9, "n": 400, "confidence": 0.85, "accuracy": 0.60}]
    record["calibration"] |= {"bins": bins, "ece": 0.25}
    assert "claims 85.0 % and is right in 60.0 %: it is too sure of itself." in summary(record, capsys)
    bins[0]["accuracy"] = 0.83
    assert "it is as sure as it should be, on average." in summary(record, capsys)


def test_a_record_of_predictions_alone_is_summed_up(record, capsys):
    for key in ("bound", "spectrum", "features"):
        record[key] = None
    record |= {"layers": [], "noise_stability": [], "totals": dict.fromkeys(record["totals"])}
    text = summary(record, capsys)
    assert text.startswith("Fit loss")
    assert "Distance" not in text
    assert "Sharpness" not in text
