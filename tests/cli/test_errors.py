"""Bad input: one sentence on stderr, status 2, no traceback."""

from __future__ import annotations

import logging
import warnings

import pytest
from PIL import Image

from holdfast.errors import DataError, Interrupted, NonFiniteError

FIT = ("fit", "cars/", "--model", "timm:resnet18", "--out", "run")

SENTENCES = [
    (("fti",), "unknown command 'fti'. Did you mean 'fit'? Known: audit, compare, explain, fit, "),
    (("compare",), "--methods is missing; say what to compare, such as plain,adarand,l2-sp."),
    (("compare", "data", "--methods", "plain"), "--models is missing; for example: holdfast compare cars/ "),
    (("export",), "'export' is not in this version yet"),
    (("pretrain",), "'pretrain' is not in this version yet"),
    (("report",), "report: DIR is missing; for example: holdfast report runs/cars."),
    (("report", "nowhere"), "'nowhere' is no run directory: it does not exist"),
    (("report", "a", "b"), "--out is missing: a report of several directories needs a file; type --out report.html."),
    (("report", "a", "--output", "x"), "--output: unknown option. Did you mean --out?"),
    (("--epochs", "3"), "--epochs: unknown option. Begin with a command"),
    (("fit",), "DATA, --model and --out are missing; for example: holdfast fit "),
    (("fit", "cars/", "--out", "run"), "--model is missing; for example: holdfast fit "),
    (("fit", "cars/", "--epoch", "5"), "--epoch: unknown option. Did you mean --epochs?"),
    (("fit", "cars/", "--val_fraction", "0"), "--val_fraction: unknown option. Did you mean --val-fraction?"),
    (("fit", "cars/", "-lr", "5"), "-lr: unknown option. Did you mean --lr?"),
    (("fit", "cars/", "--skip-bda"), "--skip-bda: unknown option. Did you mean --skip-bad?"),
    (("fit", "cars/", "--no-skip-bda"), "--no-skip-bda: unknown option. Did you mean --no-skip-bad?"),
    (("fit", "cars/", "--xyzzy"), "--xyzzy: unknown option. Add --help to see all options."),
    (("fit", "cars/", "--lr"), "--lr: a value is missing; type --lr NUMBER."),
    (("fit", "cars/", "--lr", "--epochs", "3"), "--lr: a value is missing; type --lr NUMBER."),
    (("fit", "cars/", "--method.alpha"), "--method.alpha: a value is missing; type --method.alpha VALUE."),
    (("fit", "cars/", "birds/"), "fit: unexpected argument 'birds/'; type 'holdfast fit --help' for what it takes."),
    (("fit", "cars/", "--data", "birds/"), "--data birds/: DATA is given already, 'cars/'; leave one of them out."),
    ((*FIT, "--lr", "abc"), "--lr: expected a number, got 'abc'."),
    ((*FIT, "--lr=abc"), "--lr: expected a number, got 'abc'."),
    ((*FIT, "--lr", "-1"), "--lr: expected a number of at least 0, got -1.0."),
    ((*FIT, "--batch-size", "0"), "--batch-size: expected a whole number of at least 1, got 0."),
    ((*FIT, "--batch-size", "10", "--accumulate", "3"), "--batch-size 10: not divisible by --accumulate 3; the nearest that is: 9."),
    ((*FIT, "--flip=perhaps"), "--flip: expected true or false, got 'perhaps'."),
    ((*FIT, "--select", "best"), "--select: expected one of val-accuracy, val-loss, val-corrected, last, got 'best'."),
    ((*FIT, "--method", "adrand"), "--method: unknown method 'adrand'. Did you mean 'adarand'?"),
    ((*FIT, "--method", "adarand", "--method.alhpa", "1"), "--method.alhpa: method 'adarand' has no option 'alhpa'. Did you mean 'alpha'?"),
    ((*FIT, "--plugin", "mine.py"), "--plugin mine.py: no such file."),
    ((*FIT, "--config", "run.yml"), "--config run.yml: no such file. Did you mean 'run.yaml'?"),
    ((*FIT, "--config", "run.yaml"), "run.yaml: unknown key 'lrr'. Did you mean 'lr'?"),
    ((*FIT, "--config", "twice.yaml"), "twice.yaml, line 2: the key 'lr' is given twice, first in line 1."),
    (("fit", "--resume", "run", "--lr", "1"), "--lr: a resumed run keeps its options; only --device, "),
    (("fit", "cars/", "--resume", "run"), "DATA: a resumed run keeps its options"),
    (("fit", "--resume", "run", "--config", "run.yaml"), "--config: a resumed run keeps its options"),
    (("fit", "--resume", "run", "--workers", "x"), "--workers: expected a whole number, got 'x'."),
    (("fit", "--resume", "nowhere"), "'nowhere' is no run directory: it does not exist"),
    ((*FIT[:-1], "run.yaml"), "--out: 'run.yaml' is a file; choose a"),
    (("fit", "--resume"), "--resume: a value is missing; type --resume RUN."),
    (("list", "modls"), "list: unknown word 'modls'. Did you mean 'models'?"),
    (("list", "methods", "all"), "list: unexpected argument 'all'"),
    (("list", "models", "tim"), "list models: unknown library 'tim'. Did you mean 'timm'?"),
    (("explain",), "explain: the name of a method is missing"),
    (("explain", "adrand"), "explain: unknown method 'adrand'. Did you mean 'adarand'?"),
    (("explain", "adarand", "fnp"), "explain: unexpected argument 'fnp'"),
    (("predict",), "RUN and INPUTS are missing; for example: holdfast predict "),
    (("predict", "run"), "INPUTS are missing; for example: holdfast predict "),
    (("predict", "run", "a.png"), "'run' is no run directory: it does not exist"),
    (("predict", "run", "a.png", "--out", "classes.xls"), "--out classes.xls: expected a file name that ends in .csv or .jsonl."),
    (("predict", "run", "a.png", "--device", "gpu"), "--device: expected auto, cpu, cuda or cuda:N, got 'gpu'."),
]


@pytest.mark.parametrize(("argv", "sentence"), SENTENCES, ids=[" ".join(argv) for argv, _ in SENTENCES])
def test_bad_input_is_answered_with_one_sentence(holdfast, called, tmp_path, argv, sentence):
    (tmp_path / "run.yaml").write_text("lrr: 1\n")
    (tmp_path / "twice.yaml").write_text("lr: 1\nlr: 2\n")
    answer = holdfast(*argv)
    assert answer.status == 2
    assert answer.err.startswith(f"holdfast: error: {sentence}")
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert called.config is None


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("class 'gull' is empty"), 2, "holdfast: error: class 'gull' is empty\n"),
        (NonFiniteError("step 3: NaN"), 1, "holdfast: error: step 3: NaN\n"),
        (Interrupted("stopped; go on with holdfast fit --resume run"), 1, "holdfast: stopped; go on with holdfast fit --resume run\n"),
        (KeyboardInterrupt(), 1, "holdfast: interrupted\n"),
        (RuntimeError("no memory.\nmore"), 1, "holdfast: error: RuntimeError: no memory. Add --debug to see where it happened.\n"),
        (ZeroDivisionError(), 1, "holdfast: error: ZeroDivisionError. Add --debug to see where it happened.\n"),
    ],
)  # fmt: skip
def test_an_error_of_training_becomes_a_line_and_a_status(holdfast, called, error, status, line):
    called.error = error
    answer = holdfast(*FIT)
    assert (answer.status, answer.err, answer.out) == (status, line, "")


def test_debug_shows_the_traceback_before_the_sentence(holdfast, called):
    called.error = DataError("class 'gull' is empty")
    answer = holdfast(*FIT, "--debug")
    assert answer.status == 2
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.endswith("holdfast: error: class 'gull' is empty\n")


def test_a_long_sentence_is_not_broken(holdfast, called):
    called.error = DataError("word " * 100)
    assert holdfast(*FIT).err.count("\n") == 1


class Talking(list):
    """Events whose delivery is accompanied by log records and a warning, as from libraries during training."""

    def __iter__(self):
        log = logging.getLogger("holdfast")
        log.info("a detail")
        log.warning("no validation split")
        warnings.warn("something\nodd", UserWarning, stacklevel=1)
        warnings.warn("`broadcast_buffers` is deprecated. Use another.", FutureWarning, stacklevel=1)
        return super().__iter__()


@pytest.mark.filterwarnings("default")
def test_warnings_are_single_lines_and_notes_are_for_debug(holdfast, called):
    called.events = Talking()
    first, second = holdfast(*FIT).err, holdfast(*FIT[:-1], "other", "--debug").err
    assert "holdfast: warning: no validation split\n" in first
    assert "holdfast: warning: something odd (UserWarning, " in first
    assert "a detail" not in first
    assert "broadcast_buffers" not in first + second
    assert "holdfast: note: a detail\n" in second
    assert logging.getLogger("holdfast").handlers == []


def test_other_ranks_leave_the_talking_to_the_first(holdfast, called, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = holdfast(*FIT)
    assert (answer.status, answer.out, answer.err) == (0, "", "")


def test_predict_refuses_inputs_before_it_loads_a_network(holdfast, called, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    holdfast(*FIT)
    answer = holdfast("predict", "run", "a.png", "b.png", "c.png")
    assert answer.status == 2
    assert answer.err == "holdfast: error: b.png: no such file or folder (and 1 more).\n"
