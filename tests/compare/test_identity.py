"""What makes two runs the same run."""

from __future__ import annotations

import shutil

import pytest
from tests.compare.asking import FINGERPRINTS, asked, plan

from holdfast.compare.identity import KEY_LENGTH, Identifier, cell_key
from holdfast.config.layers import command_line
from holdfast.config.load import resolve


def config(**typed):
    """The options of a run."""
    given = {"data": "demo:digits", "model": "demo:glyphnet", "out": "there", **typed}
    return resolve([command_line(given)])


def key(fingerprints=FINGERPRINTS, **typed):
    """The key of a run."""
    return cell_key(config(**typed), fingerprints)


def test_a_key_is_a_short_name_of_a_folder():
    assert len(key()) == KEY_LENGTH
    assert int(key(), 16) >= 0
    assert key() == key()


@pytest.mark.parametrize(
    "typed",
    [
        {"out": "elsewhere"},
        {"data": "moved/to/cars"},
        {"device": "cpu"},
        {"threads": "7"},
        {"workers": "3"},
        {"cache": "off"},
        {"checkpoint_minutes": "1"},
        {"store_reference": "always"},
        {"tracker": "csv"},
        {"method": "plain", "lr": "0.01"},
    ],
)
def test_where_and_by_how_many_a_run_is_made_changes_nothing(typed):
    assert key(**typed) == key()


@pytest.mark.parametrize(
    "typed",
    [
        {"seed": "1"},
        {"data_seed": "1"},
        {"train_fraction": "0.5"},
        {"shots": "3"},
        {"lr": "0.02"},
        {"epochs": "31"},
        {"method": "adarand"},
        {"recipe": "lp-ft"},
        {"select": "last"},
        {"labels": "robust"},
        {"labels": "robust", "estimate_from": "run"},
        {"track": "test"},
        {"model": "timm:resnet18"},
    ],
)
def test_what_changes_numbers_changes_the_key(typed):
    assert key(**typed) != key()


def test_a_preset_is_what_it_sets():
    paper = config(preset="paper")
    spelled = {name: getattr(paper, name) for name in ("epochs", "image_size", "augment", "normalization", "split", "data_seed")}
    spelled |= {name: getattr(paper, name) for name in ("lr", "schedule", "milestones")}
    assert cell_key(config(**spelled), FINGERPRINTS) == cell_key(paper, FINGERPRINTS)


@pytest.mark.parametrize("name", ["data", "source_data", "reference"])
def test_other_content_is_another_run(name):
    assert key({**FINGERPRINTS, name: "other"}) != key()


def test_a_list_of_training_images_is_what_is_in_it(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("1.png\n")
    second.write_text("1.png\n")
    before = key(train_list=str(first))
    assert key(train_list=str(second)) == before
    second.write_text("2.png\n")
    assert key(train_list=str(second)) != before
    assert key(train_list="1.txt") != before


def test_a_table_of_labels_is_what_is_in_it(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("id,label\n1.png,a\n")
    before = key(train_labels=str(file))
    file.write_text("id,label\n1.png,b\n")
    assert key(train_labels=str(file)) != before


def test_a_list_in_the_data_folder_is_read_there(tmp_path):
    (tmp_path / "list.txt").write_text("1.png\n")
    before = key(data=str(tmp_path), train_list="list.txt")
    (tmp_path / "list.txt").write_text("2.png\n")
    assert key(data=str(tmp_path), train_list="list.txt") != before


def test_a_transition_matrix_is_what_is_in_its_file(tmp_path):
    file = tmp_path / "matrix.json"
    file.write_text("{}")
    before = key(method="forward", transition=str(file))
    file.write_text("{ }")
    assert key(method="forward", transition=str(file)) != before


def test_the_code_of_a_plugin_is_part_of_a_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("# nothing\n")
    before = key(plugin=str(file))
    copied = tmp_path / "copy.py"
    shutil.copy(file, copied)
    assert key(plugin=str(copied)) == before != key()
    file.write_text("# something\n")
    assert key(plugin=str(file)) != before


def test_a_file_that_happens_to_be_called_like_a_value_changes_nothing(tmp_path, monkeypatch):
    before = key()
    monkeypatch.chdir(tmp_path)
    for name in ("cosine", "stratified", "demo:glyphnet", "plain"):
        (tmp_path / name).write_text("x")
    assert key() == before


def test_the_label_and_the_neighbours_of_a_method_are_no_part_of_its_runs():
    few = {cell.key for cell in plan(asked()).fixed}
    more = {cell.key for cell in plan(asked(methods="l2-sp,adarand,plain", baseline="adarand", seeds="4", workers="3")).fixed}
    assert few < more


def test_a_changed_option_of_one_method_touches_its_runs_alone():
    before = {(cell.method, cell.seed): cell.key for cell in plan(asked()).fixed}
    after = {(cell.method, cell.seed): cell.key for cell in plan(asked(**{"method.adarand.alpha": "0.3"})).fixed}
    assert {cell for cell in before if before[cell] != after[cell]} == {("adarand", 0), ("adarand", 1)}


def test_data_and_network_are_read_once(monkeypatch, tmp_path):
    from holdfast.data import content

    calls = []
    monkeypatch.setattr(content, "content_fingerprint", lambda spec, test_split: calls.append(spec) or f"of {spec}")
    identifier = Identifier()
    first = identifier.fingerprints(config())
    assert identifier.fingerprints(config(seed="3", data_seed="2", lr="0.5")) == first
    assert calls == ["demo:digits"]
    assert identifier.data_seen == {"demo:digits": "of demo:digits"}
    assert first["source_data"] is None
    assert len(first["reference"]) == 64
