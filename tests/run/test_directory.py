"""The run directory: round trips, refusals, and what survives a failure."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from holdfast.errors import CheckpointError, RunError
from holdfast.run import Run

CONFIG = {"data": "Vögel/", "method": [{"name": "adarand", "weight": 0.125}], "lr": 1e-5, "milestones": (9, 18), "val_fraction": 0.1}
METRICS = {"n": 3, "loss": 0.7, "accuracy": 2 / 3, "accuracy_ci95": [0.2, 0.9], "macro_f1": 0.7, "nll": 0.6, "ece": 0.1}


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", CONFIG)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def saved(path: Path) -> Run:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    return Run.save(
        path,
        model_state=net().state_dict(),
        classes=["ant", "bee"],
        predictions={"test": (logits, [0, 1, 1], ["a.png", "b.png", "é.png"])},
        result={"test": METRICS},
    )


# Making and opening


def test_config_survives_a_round_trip(run):
    opened = Run.open(run.path)
    assert opened.config == {**CONFIG, "milestones": [9, 18]}
    assert opened.config == run.config
    assert opened.versions == run.versions


def test_config_file_says_how_to_repeat_the_run(tmp_path):
    text = (Run.create(tmp_path / "my run", CONFIG).path / "config.yaml").read_text(encoding="utf-8")
    assert f"holdfast fit --config '{tmp_path}/my run/config.yaml'" in text.splitlines()[0]
    assert "Vögel" in text


def test_versions_are_stored_beside_the_options(run):
    stored = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))["versions"]
    assert stored["torch"] == torch.__version__.partition("+")[0]
    assert set(stored) == {"holdfast", "torch", "torchvision", "timm", "python", "created"}


def test_parents_are_made_and_an_empty_directory_is_used(tmp_path):
    Run.create(tmp_path / "a" / "b", {})
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", {}).config == {}


def test_what_a_killed_process_left_does_not_occupy_a_directory(tmp_path):
    (tmp_path / ".tmp~elsewhere~1~config.yaml").touch()
    assert Run.create(tmp_path, {}).config == {}


def test_an_existing_run_is_refused_with_the_two_ways_on(run):
    with pytest.raises(RunError, match=r"holds a run already.*--resume .*or choose another --out"):
        Run.create(run.path, {})


def test_a_folder_of_other_files_is_refused_by_name(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"is not empty \(it contains 'thesis\.tex'\)"):
        Run.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_in_the_way_is_one_sentence(tmp_path, inside):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"--out: .*file"):
        Run.create(tmp_path / "file" / "run" if inside else tmp_path / "file", {})


def test_a_failure_to_make_the_directory_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=r"--out: cannot make the directory '.*run': Read-only file system; choose another place"):
        Run.create(tmp_path / "run", {})


def test_no_permission_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(RunError, match=f"no permission to write in '{tmp_path}'"):
        Run.check_vacant(tmp_path / "a" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_directory_without_permission_is_one_sentence(tmp_path):
    for mode in (0o500, 0o000):
        (tmp_path / f"{mode}").mkdir(mode=mode)
        with pytest.raises(RunError, match=r"[Pp]ermission"):
            Run.create(tmp_path / f"{mode}", {})


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RunError, match=r"--out '.*runs.udcff': the name is not UTF-8"):
        Run.create(os.path.join(tmp_path, os.fsdecode(b"runs\xff")), {})
    assert list(tmp_path.iterdir()) == []


def test_checking_a_vacant_place_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Run.check_vacant("runs/new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "does not exist"), ("file", "is a file"), ("folder", "config.yaml is missing")])
def test_opening_what_is_no_run_says_why(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=f"no run directory: .*{reason}"):
        Run.open(tmp_path / name)


@pytest.mark.parametrize("content", [b"a: [1", b"just text", b"\xff\xfe"])
def test_a_damaged_config_is_named(run, content):
    (run.path / "config.yaml").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.yaml' is damaged"):
        Run.open(run.path)


def test_code_in_a_config_is_not_run(run, tmp_path):
    code = f"lr: !!python/object/apply:os.mkdir ['{tmp_path}/executed']\n"
    (run.path / "config.yaml").write_text(code)
    with pytest.raises(RunError, match=r"config\.yaml' is damaged"):
        Run.open(run.path)
    assert not (tmp_path / "executed").exists()
    yaml.unsafe_load(code)
    assert (tmp_path / "executed").exists()  # the code works where it is run


def test_opening_removes_what_a_killed_process_left(run):
    leftover = run.path / ".tmp~elsewhere~1~result.json"
    leftover.touch()
    os.utime(leftover, (0, 0))
    Run.open(run.path)
    assert not leftover.exists()


# Splits and reference


def test_splits_survive_a_round_trip(run):
    splits = {"classes": ["ant", "blåbær"], "splits": {"train": ["ant/ü 1.png"], "val": [], "test": ["ant/图.png"]}, "fingerprint": "ab"}
    run.write_splits(splits)
    assert Run.open(run.path).splits == splits


def test_reference_weights_are_stored_only_when_given(run):
    run.write_reference({"sha256": "ab", "head": {"seed": 0}})
    assert run.reference == {"sha256": "ab", "head": {"seed": 0}}
    assert not run.has("reference.safetensors")
    run.write_reference({"sha256": "cd"}, {"w": torch.arange(3.0)})
    torch.testing.assert_close(run.load_reference_weights()["w"], torch.arange(3.0), rtol=0, atol=0)


def test_a_file_that_is_not_there_is_named(run):
    for read in (lambda: run.splits, lambda: run.reference, run.load_weights, run.load_predictions, run.load_reference_weights):
        with pytest.raises(RunError, match=r"has no (splits|reference|model|predictions)\."):
            read()


@pytest.mark.parametrize("content", ["{", "[1]", '{"classes": ['])
def test_damaged_json_is_named(run, content):
    (run.path / "splits.json").write_text(content)
    with pytest.raises(RunError, match=r"splits\.json' is damaged"):
        _ = run.splits


# History


def test_history_keeps_types(run):
    rows = [{"epoch": 1, "step": 3, "loss": 0.1, "selected": "val-accuracy", "val_loss": None}, {"epoch": 2, "step": 6, "loss": 1e-9}]
    for row in rows:
        run.append_history(row)
    assert run.history == [rows[0], {**rows[1], "selected": None, "val_loss": None}]
    assert type(run.history[0]["epoch"]) is int


def test_history_of_a_new_run_is_empty(run):
    assert run.history == []


def test_a_new_key_becomes_a_column_and_nan_an_empty_cell(run):
    run.append_history({"step": 1, "loss": float("nan")})
    run.append_history({"step": 2, "loss": np.float32(0.5), "adarand": 0.25})
    assert run.history == [{"step": 1, "loss": None, "adarand": None}, {"step": 2, "loss": 0.5, "adarand": 0.25}]


def test_truncation_drops_the_rows_beyond_the_step(run):
    for step in (3, 6, 9):
        run.append_history({"epoch": step // 3, "step": step})
    run.truncate_history(6)
    assert [row["step"] for row in run.history] == [3, 6]
    run.truncate_history(0)
    assert run.history == []
    run.append_history({"step": 1})
    assert run.history == [{"step": 1}]


def test_truncating_what_is_not_there_writes_nothing(run):
    run.truncate_history(5)
    run.truncate_features(5)
    run.truncate_metrics(5)
    assert {path.name for path in run.path.iterdir()} == {"config.yaml"}


def test_features_have_a_table_of_their_own(run):
    assert run.features == []
    for step in (0, 3, 6):
        run.append_features({"epoch": step // 3, "step": step, "entropy": float(step)})
    run.truncate_features(3)
    assert run.features == [{"epoch": 0, "step": 0, "entropy": 0.0}, {"epoch": 1, "step": 3, "entropy": 3.0}]
    run.truncate_features(-1)
    assert run.features == run.history == []


def test_metrics_grow_in_long_form(run):
    assert run.metrics == []
    run.append_metrics(50, 1, {"step/loss": 0.5, 'odd, "name"': 2})
    run.append_metrics(60, 1, {"epoch/loss": float("inf")})
    assert (run.path / "metrics.csv").read_text().startswith("step,epoch,name,value\n50,1,step/loss,0.5\n")
    assert run.metrics == [
        {"step": 50, "epoch": 1, "name": "step/loss", "value": 0.5},
        {"step": 50, "epoch": 1, "name": 'odd, "name"', "value": 2},
        {"step": 60, "epoch": 1, "name": "epoch/loss", "value": None},
    ]


@pytest.mark.parametrize(("step", "left"), [(60, 2), (59, 1), (0, 0)])
def test_truncated_metrics_lose_what_is_beyond_and_a_half_written_line(run, step, left):
    run.append_metrics(50, 1, {"a": 0.5})
    run.append_metrics(60, 1, {"a": 0.25})
    whole = run.metrics
    with (run.path / "metrics.csv").open("a") as stream:
        stream.write("60,1,b,0.1")
    run.truncate_metrics(step)
    run.append_metrics(70, 2, {"a": 0.125})
    assert run.metrics == [*whole[:left], {"step": 70, "epoch": 2, "name": "a", "value": 0.125}]


def test_a_full_disk_is_named_where_metrics_grow(run, monkeypatch):
    monkeypatch.setattr(Path, "open", lambda *_, **__: full_disk())
    with pytest.raises(RunError, match=r"no space left for '.*metrics\.csv'; nothing was lost"):
        run.append_metrics(1, 1, {"a": 0.5})


@pytest.mark.parametrize("tail", ["3", "3,9,0.", '3,9,"ab'])
def test_a_half_written_line_is_left_out(run, tail):
    run.append_history({"epoch": 1, "step": 3, "loss": 0.5})
    run.append_history({"epoch": 2, "step": 6, "loss": 0.25})
    with (run.path / "history.csv").open("a") as stream:
        stream.write(tail)
    assert [row["epoch"] for row in run.history] == [1, 2]
    run.append_history({"epoch": 3, "step": 9, "loss": 0.125})
    assert [row["epoch"] for row in run.history] == [1, 2, 3]


def test_a_failed_append_leaves_the_earlier_rows(run, monkeypatch):
    run.append_history({"step": 1})
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(RunError):
        run.append_history({"step": 2})
    assert run.history == [{"step": 1}]


# Result


def test_an_unfinished_run_says_how_to_go_on(run):
    assert not run.finished
    with pytest.raises(RunError, match=r"training has not finished; type `holdfast fit --resume "):
        _ = run.test


def test_metrics_are_attributes(tmp_path):
    run = saved(tmp_path / "run")
    assert run.finished
    assert run.test.accuracy == pytest.approx(2 / 3)
    assert run.test.accuracy_ci95 == (0.2, 0.9)
    assert run.train is None
    assert run.val is None


def test_an_invalid_result_is_not_written(run):
    with pytest.raises(RunError, match="'holdfast' is missing"):
        run.write_result({"schema": 1})
    assert not run.has("result.json")


def test_what_is_not_finite_becomes_null_in_the_result(tmp_path):
    run = saved(tmp_path / "run")
    run.write_result({**run.result, "test": {**METRICS, "nll": float("inf")}})
    assert run.test.nll is None
    assert "Infinity" not in (run.path / "result.json").read_text()


# Weights and predictions


def test_the_model_comes_back_with_its_weights_in_eval_mode(run):
    model = net()
    run.save_model(model.state_dict())
    loaded = run.load_model(net)
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_tied_and_transposed_weights_are_stored_by_value(run):
    weight = torch.arange(6.0).reshape(2, 3)
    run.save_model({"a": weight, "tied": weight, "transposed": weight.T})
    weights = run.load_weights()
    assert torch.equal(weights["tied"], weight)
    assert torch.equal(weights["transposed"], weight.T)


def test_weights_of_another_network_are_refused(run):
    run.save_model(net().state_dict())
    with pytest.raises(CheckpointError, match=r"model\.safetensors' does not fit Linear: .*Missing key"):
        run.load_model(lambda: nn.Linear(4, 2))


def test_a_truncated_model_file_is_named(run):
    run.save_model(net().state_dict())
    run.model_path.write_bytes(run.model_path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"model\.safetensors' is damaged"):
        run.load_model(net)


def test_predictions_survive_a_round_trip(run):
    logits = torch.randn(3, 2)
    run.save_predictions({"val": (logits, [0, 1, 1], ["a", "bb", "é"]), "test": (logits[:1], torch.tensor([1]), ["z"])})
    predictions = run.load_predictions()
    assert list(predictions) == ["val", "test"]
    np.testing.assert_array_equal(predictions["val"].logits, logits.numpy())
    assert predictions["val"].labels.dtype == np.int64
    assert predictions["val"].ids.tolist() == ["a", "bb", "é"]
    assert predictions["test"].labels.tolist() == [1]


def test_predictions_of_unequal_length_are_refused(run):
    with pytest.raises(RunError, match="predictions of 'val' have 2 logits, 2 labels, 1 ids"):
        run.save_predictions({"val": (np.zeros((2, 3)), [0, 1], ["a"])})


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_pickled_predictions_are_never_loaded(run, tmp_path):
    mark = tmp_path / "executed"
    array = np.array([Payload(mark)], dtype=object)
    np.savez(run.path / "predictions.npz", val_logits=array, val_labels=array, val_ids=array)
    with pytest.raises(CheckpointError, match=r"predictions\.npz' is damaged"):
        run.load_predictions()
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()  # the payload works where pickles are loaded


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"\x93NUMPY"])
def test_damaged_predictions_are_named(run, content):
    (run.path / "predictions.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"predictions\.npz' is damaged"):
        run.load_predictions()


# A run of one's own


def test_a_saved_run_opens_as_any_other(tmp_path):
    saved(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.finished
    assert (run.splits["train"], run.splits["test"]) == (None, ["a.png", "b.png", "é.png"])
    assert run.result["data"]["n_test"] == 3
    assert run.result["data"]["classes"] == ["ant", "bee"]
    assert run.load_predictions()["test"].labels.tolist() == [0, 1, 1]
    run.load_model(net)


def test_an_invalid_result_leaves_no_directory_behind(tmp_path):
    with pytest.raises(RunError, match=r"test\.accuracy_ci95' is missing"):
        Run.save(tmp_path / "run", model_state={}, classes=["a"], predictions={}, result={"test": {"n": 1, "loss": 0.1, "accuracy": 1.0}})
    assert not (tmp_path / "run").exists()


# Failures


def write_everything(run: Run) -> None:
    run.write_splits({"classes": []})
    run.append_history({"step": 1})
    run.append_features({"step": 1})
    run.append_metrics(1, 1, {"a": 0.5})
    run.save_model({"w": torch.zeros(2)})
    run.save_predictions({"val": (np.zeros((1, 2)), [0], ["a"])})
    with run.writing("checkpoint/state.pt") as stream:
        torch.save({"w": torch.zeros(2)}, stream)


WRITERS = {
    "splits.json": lambda run: run.write_splits({"classes": ["new"]}),
    "history.csv": lambda run: run.append_history({"step": 2}),
    "features.csv": lambda run: run.append_features({"step": 2}),
    "metrics.csv": lambda run: run.truncate_metrics(0),
    "model.safetensors": lambda run: run.save_model({"w": torch.ones(2)}),
    "predictions.npz": lambda run: run.save_predictions({"test": (np.ones((1, 2)), [1], ["b"])}),
    "checkpoint/state.pt": lambda run: save_state(run),
}


def save_state(run: Run) -> None:
    with run.writing("checkpoint/state.pt") as stream:
        torch.save({"w": torch.ones(2)}, stream)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_loses_nothing_and_says_how_to_go_on(run, monkeypatch, name, call):
    write_everything(run)
    before = (run.path / name).read_bytes()
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(RunError) as error:
        WRITERS[name](run)
    assert str(error.value) == (
        f"no space left for '{run.path / name}'; nothing was lost: free space and type `holdfast fit --resume {run.path}`"
    )
    assert (run.path / name).read_bytes() == before
    assert not list(run.path.rglob(".tmp~*"))


def test_a_disk_that_is_full_at_the_start_speaks_of_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(RunError, match="the run had not begun: free space and start it again"):
        Run.create(tmp_path / "run", {})
    monkeypatch.undo()
    Run.create(tmp_path / "run", {})


def test_a_full_disk_is_seen_through_the_writer_of_torch(run):
    def write():
        with run.writing("checkpoint/state.pt") as stream:
            stream.write = full_disk
            torch.save({"w": torch.zeros(1000)}, stream)

    with pytest.raises(RunError, match="no space left"):
        write()


def test_other_failures_to_write_are_one_sentence(run, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RunError, match=r"cannot write '.*splits\.json': Permission denied"):
        run.write_splits({})


@pytest.mark.parametrize("error", [ValueError("mine"), RunError("mine")])
def test_an_error_of_the_caller_is_not_renamed(run, error):
    with pytest.raises(type(error), match=r"^mine$"), run.writing("checkpoint/state.pt"):
        raise error
    assert not run.has("checkpoint/state.pt")
