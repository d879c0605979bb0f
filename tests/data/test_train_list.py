from __future__ import annotations

import numpy as np
import pytest

from holdfast.data.source import Listing
from holdfast.data.train_list import read_train_list
from holdfast.errors import DataError

IDS = ("test/a/9.png", "train/a/1.png", "train/a/2 x.png", "train/b/#3.png", "train/b/ä.png")
GIVEN = Listing(IDS, np.array([0, 0, 0, 1, 1]), ("a", "b"), ("test", "train", "train", "train", "train"))
FLAT = Listing(IDS, np.array([0, 0, 0, 1, 1]), ("a", "b"), None)


@pytest.fixture
def read(tmp_path):
    """A function (text) that writes a list and returns the ids it names."""

    def read(text, listing=GIVEN):
        path = tmp_path / "list.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        mask = read_train_list(str(path), "data", tmp_path, listing)
        return [image for image, listed in zip(listing.ids, mask, strict=True) if listed]

    return read


@pytest.mark.parametrize(
    "text",
    [
        "train/a/1.png\ntrain/b/ä.png\n",
        "train/a/1.png\r\ntrain/b/ä.png\r\n",
        "# images\n\ntrain/a/1.png\n   \n  # more\ntrain/b/ä.png",
        "./train/a/1.png\ntrain//b/./ä.png",
        "train\\a\\1.png\n.\\train\\b\\ä.png",
        "  train/a/1.png \n\ttrain/b/ä.png\t\n",
        "\ufefftrain/a/1.png\ntrain/b/ä.png\n",
        "train/b/ä.png\ntrain/a/1.png\ntrain/a/1.png\n",
    ],
)
def test_ways_to_write_a_list(read, text):
    assert read(text) == ["train/a/1.png", "train/b/ä.png"]


def test_absolute_paths_inside_the_data_root_are_understood(read, tmp_path):
    assert read(f"{tmp_path}/train/a/1.png\n") == ["train/a/1.png"]


def test_names_with_blanks_and_hash_marks_are_names(read):
    assert read("train/a/2 x.png\ntrain/b/#3.png\n") == ["train/a/2 x.png", "train/b/#3.png"]


def test_unknown_images_are_counted_and_the_first_five_named(read):
    text = "".join(f"train/a/no{number}.png\n" for number in range(8))
    with pytest.raises(DataError, match=r"names 8 images not in data: 'train/a/no0.png', .*'train/a/no4.png' and 3 more"):
        read("train/a/1.png\n" + text)


def test_a_list_may_name_ids_or_the_paths_behind_them_and_ids_come_first(read):
    listing = Listing(("1.png", "2.png", "x"), np.array([0, 0, 1]), ("a", "b"), None, columns={"path": ("2.png", "a/b.png", "1.png")})
    assert read("x\n", listing) == ["x"]
    assert read("./a/b.png\n", listing) == ["2.png"]
    assert read("1.png\n", listing) == ["1.png"]


def test_images_of_another_split_are_refused(read):
    with pytest.raises(DataError, match=r"names an image outside the train split: 'test/a/9\.png'"):
        read("test/a/9.png\ntrain/a/1.png\n")


def test_without_given_splits_any_image_may_be_listed(read):
    assert read("test/a/9.png\n", FLAT) == ["test/a/9.png"]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_an_empty_list_is_refused(read, text):
    with pytest.raises(DataError, match="the list names no image"):
        read(text)


def test_a_list_that_is_no_text_is_refused(read):
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        read(b"\xff\xfe\x00\x80")


def test_the_working_directory_comes_before_the_data_root(tmp_path, monkeypatch):
    root, here = tmp_path / "root", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    (root / "list.txt").write_text("train/a/1.png\n")
    monkeypatch.chdir(here)
    assert read_train_list("list.txt", "data", root, GIVEN).tolist() == [False, True, False, False, False]
    (here / "list.txt").write_text("train/b/ä.png\n")
    assert read_train_list("list.txt", "data", root, GIVEN).tolist() == [False, False, False, False, True]


def test_an_absolute_list_is_taken_as_it_is(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("train/a/1.png\n")
    assert read_train_list(str(path), "data", tmp_path / "elsewhere", GIVEN).sum() == 1


def test_a_missing_list_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"--train-list no.txt: there is no such file in the working directory or in .*data"):
        read_train_list("no.txt", "data", tmp_path / "data", GIVEN)
    with pytest.raises(DataError, match=r"--train-list /no/list.txt: there is no such file there"):
        read_train_list("/no/list.txt", "data", tmp_path, GIVEN)


def test_a_dataset_without_a_folder_has_its_list_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_text("train/a/1.png\n")
    monkeypatch.chdir(tmp_path)
    assert read_train_list("list.txt", "demo:digits", None, GIVEN).sum() == 1
