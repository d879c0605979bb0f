"""One number for all that a dataset holds."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from holdfast.data import content
from holdfast.data.content import content_fingerprint
from holdfast.data.source import read_bytes
from holdfast.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Two classes of two images."""
    root = tmp_path / "here"
    for number, name in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file)
    return root


def test_a_moved_folder_holds_the_same(folder, tmp_path):
    before = content_fingerprint(str(folder))
    moved = tmp_path / "there" / "deep"
    shutil.move(folder, moved)
    assert content_fingerprint(str(moved)) == before


@pytest.mark.parametrize("change", ["bytes", "name", "class", "gone"])
def test_a_changed_example_is_seen(folder, change):
    before = content_fingerprint(str(folder))
    file = folder / "a/1.png"
    if change == "bytes":
        Image.new("RGB", (8, 8), (99, 0, 0)).save(file)
    elif change == "gone":
        file.unlink()
    else:
        file.rename(folder / ("a/3.png" if change == "name" else "b/3.png"))
    assert content_fingerprint(str(folder)) != before


def test_columns_and_splits_of_a_table_are_seen_and_where_its_images_lie_is_not(folder, tmp_path):
    def table(*rows, name="t.csv"):
        file = tmp_path / name
        file.write_text("\n".join(["id,path,label,split,patient", *rows]) + "\n")
        return content_fingerprint(str(file))

    rows = ["x,here/a/1.png,a,train,1", "y,here/b/1.png,b,test,2"]
    before = table(*rows)
    assert table(*rows, name="u.csv") == before
    assert table(rows[0], "y,here/b/1.png,b,train,2") != before
    assert table(rows[0], "y,here/b/1.png,b,test,3") != before
    assert table(rows[0], "y,here/b/1.png,a,test,2") != before
    shutil.copy(folder / "b/1.png", tmp_path / "elsewhere.png")
    assert table(rows[0], "y,elsewhere.png,b,test,2") == before


def test_much_data_counts_by_sizes(folder, monkeypatch):
    monkeypatch.setattr(content, "HASH_LIMIT", 10)
    before = content_fingerprint(str(folder))
    file = folder / "a/1.png"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert content_fingerprint(str(folder)) == before
    (folder / "a/1.png").write_bytes((folder / "a/1.png").read_bytes() + b"more")
    assert content_fingerprint(str(folder)) != before


def test_a_file_that_cannot_be_read_counts_as_such(folder, monkeypatch):
    def read(source, name):
        if name == "a/1.png":
            raise DataError("no read permission")
        return read_bytes(source, name)

    before = content_fingerprint(str(folder))
    monkeypatch.setattr(content, "read_bytes", read)
    found = content_fingerprint(str(folder))
    assert found == content_fingerprint(str(folder)) != before
