"""Names of classes in a file beside shards."""

from __future__ import annotations

import pytest

from holdfast.data.shard_classes import read_class_names
from holdfast.errors import DataError


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "owl\n ant \r\nbee\n\n"),
        ("classes.json", '["owl", "ant", "bee"]'),
        ("classes.json", '{"0": "owl", "1": "ant", "2": "bee"}'),
        ("classes.json", '{"bee": 2, "owl": 0, "ant": 1}'),
    ],
)
def test_labels_are_numbers_or_names(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    classes = read_class_names("wds:x", str(tmp_path))
    assert sorted(classes.names) == ["ant", "bee", "owl"]
    assert classes.named("wds:x", ["0", "2", "ant"], ["s"] * 3) == ["owl", "bee", "ant"]
    with pytest.raises(
        DataError, match=rf"wds:x: the label '3' in the shard 't' is no class of .*{file}: 'owl', 'ant', 'bee'\.|'bee', 'owl'"
    ):
        classes.named("wds:x", ["0", "3"], ["s", "t"])


def test_there_may_be_no_such_file(tmp_path):
    assert read_class_names("wds:x", str(tmp_path)) is None


def test_the_file_may_lie_above_the_folder_of_a_split_and_only_there(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb")
    assert read_class_names("wds:x", str(tmp_path / "train")).names == ("a", "b")
    assert read_class_names("wds:x", str(tmp_path / "birds")) is None


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("classes.txt", "", "names no class, or has one without a name"),
        ("classes.txt", "a\n\nb", "names no class, or has one without a name"),
        ("classes.txt", "a\nb\na", "names the class 'a' twice."),
        ("classes.json", "{", 'expected a list of names, or {"0": "ant", …}, or {"ant": 0, …}.'),
        ("classes.json", '{"a": 1.5}', "expected a list of names"),
        ("classes.json", "[1, 2]", "expected a list of names"),
    ],
)
def test_a_file_that_is_not_understood_is_said(tmp_path, file, text, sentence):
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError) as error:
        read_class_names("wds:x", str(tmp_path))
    assert sentence in str(error.value)


def test_a_file_in_another_encoding_is_said(tmp_path):
    (tmp_path / "classes.txt").write_bytes("käfer".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes.txt cannot be read as text in UTF-8"):
        read_class_names("wds:x", str(tmp_path))
