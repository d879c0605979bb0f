"""Which shards a pattern names, what ids call them, and the splits their names tell."""

from __future__ import annotations

import pytest

from holdfast.data.shard_names import find_shards
from holdfast.errors import DataError


@pytest.fixture
def tars(tmp_path, monkeypatch):
    """A function that makes empty files, in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def named(spec, **options):
    root, shards = find_shards(spec, **options)
    return root, [(shard.name, shard.split) for shard in shards]


def test_a_pattern_is_relative_to_the_working_directory_and_ids_to_the_folder_of_all(tars):
    here = tars("d/s-0.tar", "d/s-1.tar")
    assert named("wds:d/s-{0..1}.tar") == (f"{here}/d", [("s-0", ""), ("s-1", "")])
    assert [shard.url for shard in find_shards("wds:d/s-{0..1}.tar")[1]] == [f"{here}/d/s-0.tar", f"{here}/d/s-1.tar"]


@pytest.mark.parametrize(
    ("files", "spec", "found"),
    [
        (("train-0.tar", "val-0.tar", "test-1.tar"), "wds:d", [("test-1", "test"), ("train-0", "train"), ("val-0", "val")]),
        (("train/0.tar", "validation/0.tar"), "wds:d", [("train/0", "train"), ("validation/0", "val")]),
        (("train/test-0.tar", "val/test-0.tar"), "wds:d/*/*.tar", [("train/test-0", "train"), ("val/test-0", "val")]),
        (
            ("in1k-train-00.tar", "in1k-validation-00.tar"),
            "wds:d/in1k-{train,validation}-00.tar",
            [("in1k-train-00", "train"), ("in1k-validation-00", "val")],
        ),
        (("a_Train.tar", "b.valid.tar"), "wds:d/*.tar", [("a_Train", "train"), ("b.valid", "val")]),
        (("trained-0.tar", "latest.tar"), "wds:d", [("latest", ""), ("trained-0", "")]),
    ],
)
def test_splits_are_told_by_folders_or_by_parts_of_names(tars, files, spec, found):
    here = tars(*(f"d/{name}" for name in files))
    assert named(spec) == (f"{here}/d", found)


def test_another_name_can_be_the_test_split(tars):
    tars("d/train-0.tar", "d/exam-0.tar")
    assert named("wds:d", test_split="exam")[1] == [("exam-0", "exam"), ("train-0", "train")]


def test_a_shard_named_twice_is_one(tars):
    tars("d/s-0.tar", "d/s-1.tar")
    assert [name for name, _ in named("wds:d/{s-0,s-*}.tar")[1]] == ["s-0", "s-1"]


@pytest.mark.parametrize(
    ("files", "spec", "sentence"),
    [
        ((), "wds:{0..1", "wds:{0..1: a brace is not closed."),
        (
            (),
            "wds:d/*.tar",
            "wds:d/*.tar: there is no shard 'd/*.tar'; expected tar archives such as train-{000..012}.tar, or their folder.",
        ),
        (("d/x.txt",), "wds:d", "wds:d: there is no shard 'd'; expected tar archives"),
        (("d/a-0.tar",), "wds:d/{a,b}-*.tar", "wds:d/{a,b}-*.tar: there is no shard 'd/b-*.tar'; expected"),
        (("d/a.tar.gz",), "wds:d/a.tar.gz", "wds:d/a.tar.gz: '…/d/a.tar.gz' is compressed, which leaves no way into its middle; unpack it"),
        (("d/a.tar", "d/train-0.tar"), "wds:d", "wds:d: some shards are named after a split and 1 are not ('a'); give a pattern that"),
        (("d/val-0.tar", "d/test-0.tar"), "wds:d", "wds:d: there is no shard of the split 'train', only of 'test', 'val'."),
    ],
)
def test_what_names_no_dataset_is_said(tars, files, spec, sentence):
    here = tars(*files)
    with pytest.raises(DataError) as error:
        find_shards(spec)
    assert str(error.value).replace(str(here), "…").startswith(sentence)
