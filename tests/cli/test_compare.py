"""``holdfast compare`` as it is typed and as it answers."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from tests.compare.asking import asked, plan
from tests.compare.rows import rows

from holdfast.averaging.record import Averages, Group
from holdfast.cli.compare_forecast import print_forecast
from holdfast.cli.compare_progress import progress
from holdfast.cli.compare_summary import print_comparison
from holdfast.cli.terminal import out
from holdfast.compare.cells import Outcome
from holdfast.compare.events import CellEnded, Planned, Probing, Reading, TrialChosen
from holdfast.compare.forecast import Estimate, Forecast
from holdfast.compare.record import Failure
from holdfast.compare.summary import compare_rows
from holdfast.errors import Interrupted

command = importlib.import_module("holdfast.cli.compare")

COMPARE = ("compare", "demo:digits", "--model", "demo:glyphnet", "--methods", "plain,adarand", "--out", "there")

GROUP = Group("photos", "demo:glyphnet", None, 0, (), (), None, None, "too few")


@pytest.fixture
def forecast():
    """A plan with a search, of which nothing is finished."""
    found = plan(asked(grid=["adarand.weight=0.1,1"], seeds="5", data_seeds="3,8"))
    estimates = {
        (cell.setting, cell.method): Estimate(60.0 if cell.method == "plain" else 90.0, 10.0, 25.0, "timed") for cell in found.expected
    }
    return Forecast(found, 0, tuple(found.expected), estimates, 2, "the CPU, 1 thread each", 100.0)


@pytest.fixture
def comparison():
    """Five seeds of two methods, one clearly better."""
    return compare_rows(rows({"plain": [0.7, 0.72, 0.71, 0.69, 0.7], "adarand": [0.8, 0.83, 0.8, 0.79, 0.81]}), baseline="plain")


@pytest.fixture
def made(monkeypatch, tmp_path, comparison, forecast):
    """Nothing is made; what was asked is noted."""
    monkeypatch.chdir(tmp_path)
    noted = []
    monkeypatch.setattr(command, "read_averages", lambda folder: Averages((GROUP,), 0, 0.0, ""))
    monkeypatch.setattr(command, "compare_asked", lambda question, *, listener: noted.append(question) or comparison)
    monkeypatch.setattr(command, "forecast_asked", lambda question, *, listener: noted.append(question) or forecast)
    return noted


def test_the_command_line_is_what_is_asked(holdfast, made):
    answer = holdfast(
        *COMPARE[:2], "cars/", *COMPARE[2:], "--grid", "lr=1,2", "--grid=adarand.weight=1,2", "--method.adarand.alpha", "0.3", "--no-flip"
    )
    assert answer.status == 0, answer.err
    (question,) = made
    assert question.get("data") == ["demo:digits", "cars/"]
    assert question.get("models") == "demo:glyphnet"
    assert question.get("grid") == ["lr=1,2", "adarand.weight=1,2"]
    assert question.complete()["method.adarand.alpha"] == "0.3"
    assert question.complete()["flip"] is False


def test_a_file_is_read_and_the_command_line_wins(holdfast, made, tmp_path):
    (tmp_path / "all.yaml").write_text(
        "data: demo:digits\nmodels: [demo:glyphnet]\nmethods: [plain, {name: x, method: plain, lr: 1}]\nseeds: 3\n"
    )
    assert holdfast("compare", "--config", "all.yaml", "--seeds", "4", "--out", "there").status == 0
    (question,) = made
    assert (question.get("seeds"), question.get("models"), question.get("data")) == ("4", ["demo:glyphnet"], "demo:digits")


def test_the_tables_say_accuracy_difference_verdict_and_cost(holdfast, made):
    answer = holdfast(*COMPARE)
    assert answer.status == 0
    lines = answer.out.splitlines()
    header = next(line for line in lines if line.startswith("method"))
    assert header.split("  ")[0] == "method"
    assert "minus plain" in header
    adarand = next(line for line in lines if line.startswith("adarand"))
    assert " 5 " in adarand
    assert "80.6 %" in adarand
    assert "+10.2" in adarand
    assert "better" in adarand
    assert "…" not in answer.out
    assert "Next: holdfast audit there/runs/adarand-photos" in answer.out


def test_averages_are_told_of_unless_they_are_switched_off(holdfast, made):
    assert "Averages of weights, chosen on validation: photos, demo:glyphnet, data seed 0\nnone: too few\n" in holdfast(*COMPARE).out
    assert "Averages" not in holdfast(*COMPARE, "--no-average").out


def test_a_run_that_failed_makes_the_status_1(holdfast, monkeypatch, made, comparison):
    import dataclasses

    failure = Failure("bss", "photos", "demo:glyphnet", None, 3, 0, "", False, "runs/x", "its loss became NaN")
    tuning = dataclasses.replace(failure, tuning=True, trial="lr=9")
    for failures, status in (((failure,), 1), ((tuning,), 0), ((), 0)):
        found = dataclasses.replace(comparison, failures=failures)
        monkeypatch.setattr(command, "compare_asked", lambda question, *, listener, found=found: found)
        answer = holdfast(*COMPARE)
        assert answer.status == status
        assert ("Failed: bss on photos, seed 3, data seed 0: its loss became NaN" in answer.out) == (failures == (failure,))


def test_an_interrupted_comparison_has_status_1(holdfast, monkeypatch):
    def stop(question, *, listener):
        raise Interrupted("stopped by SIGINT; 3 of 9 runs are finished")

    monkeypatch.setattr(command, "compare_asked", stop)
    answer = holdfast(*COMPARE)
    assert (answer.status, answer.err) == (1, "holdfast: stopped by SIGINT; 3 of 9 runs are finished\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seeds", "0"), "--seeds 0: that makes a comparison of zero runs; give at least one seed."),
        (("--seeds", "1,1"), "--seeds 1,1: 1 stands there twice"),
        (("--seed", "1"), "--seed: unknown option. Did you mean --seeds?"),
        (("--method", "plain"), "--method: unknown option. Did you mean --methods?"),
        (("--methods", "plain,adrand"), "--methods: unknown method 'adrand'. Did you mean 'adarand'?"),
        (("--out", "photos"), "--out: 'photos' is not empty"),
        (("--workers", "none"), "--workers: expected a whole number"),
        (("--grid", "adarand.weight=1", "--grid", "plain.lr=1,2"), "--grid: a fair search tries every method equally often"),
    ],
)
def test_bad_input_is_answered_at_once_with_one_line(holdfast, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/x").mkdir(parents=True)
    answer = holdfast(*COMPARE, *words)
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    assert line.startswith(f"holdfast: error: {message}")
    assert not (tmp_path / "there").exists()


def test_bad_input_is_answered_without_torch(tmp_path):
    code = (
        "import sys\nfrom holdfast.cli.main import main\n"
        f"status = main({[*COMPARE, '--seeds', '0']!r})\nassert status == 2\nassert main(['compare', '--help']) == 0\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stderr


def test_a_plan_says_runs_time_space_and_who_is_not_searched(holdfast, made):
    answer = holdfast(*COMPARE, "--dry-run")
    assert answer.status == 0
    text = " ".join(answer.out.split())
    assert text.startswith("Plan of there: nothing has been written. Times are estimates.")
    for part in (
        "On demo:digits with demo:glyphnet",
        "Methods plain adarand: 2 trials, weight=0.1; weight=1",
        "Note plain is not searched, while others have 2 trials: --grid plain.lr=...",
        "Seeds training 0 to 4; data 3, 8; trials are judged with 1000, on validation",
        "Runs 24, 4 of them to choose trials",
        "about 15 min 30 s, 2 at a time on the CPU, 1 thread each; a run without reading the data: adarand 1 min 30 s, plain 1 min 00 s",
        "Disk about 270 MiB more; 100 MiB are free, which is too little",
        "Next: the same command without --dry-run.",
    ):
        assert part in text, (part, text)


def test_what_is_finished_is_said(forecast, capsys):
    cells = forecast.plan.expected
    print_forecast(Forecast(forecast.plan, 20, tuple(cells[20:]), forecast.estimates, 2, "the CPU", 1e6), None, out)
    assert "Runs     24, 4 of them to choose trials; 20 are finished, 4 are left" in capsys.readouterr().out


def test_each_run_is_a_line_when_it_ends(forecast, capsys):
    plain, tuning = forecast.plan.fixed[0], forecast.plan.tuning[0]
    with progress() as listener:
        listener(Reading())
        listener(Probing("plain", plain.setting))
        listener(Planned(forecast))
        listener(CellEnded(Outcome(tuning, None, 12.0), 0.625, 1, 24, 300.0))
        listener(TrialChosen("adarand", plain.setting, 3, "weight=1", 0.7, 2))
        listener(TrialChosen("bss", plain.setting, 3, None, None, 2))
        listener(CellEnded(Outcome(plain, None, 9.0, 2), 0.5, 2, 24, None))
        listener(CellEnded(Outcome(plain, "its loss became NaN", 1.0), None, 3, 24, None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["reading data and networks", "trying plain on demo:digits with demo:glyphnet"]
    assert lines[-5:] == [
        " 1/24  tuning adarand (weight=0.1), seed 1000, data seed 3  val 62.5 %  12 s  5 min 00 s left",
        "adarand on demo:digits with demo:glyphnet, data seed 3: weight=1 is the best of 2 trials, val 70.0 %",
        "bss on demo:digits with demo:glyphnet, data seed 3: none of 2 trials could be trained",
        " 2/24  plain, seed 0, data seed 3  test 50.0 % (second attempt)  9.0 s",
        " 3/24  plain, seed 0, data seed 3  failed: its loss became NaN  1.0 s",
    ]


def test_quiet_says_nothing(forecast, capsys):
    with progress(quiet=True) as listener:
        listener(Planned(forecast))
    assert capsys.readouterr().err == ""


def test_a_comparison_without_finished_runs_has_no_table(capsys):
    failure = Failure("plain", "photos", "demo:glyphnet", None, 0, 0, "", False, "runs/x", "its loss became NaN")
    print_comparison(compare_rows([], methods=["plain"], failures=[failure]), "there")
    text = capsys.readouterr().out
    assert "Failed: plain on photos, seed 0, data seed 0: its loss became NaN" in text
    assert "Next" not in text
