from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from holdfast.data.folder import read_folder
from holdfast.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def rows(root, **options):
    """Id, class name and split of each image."""
    listing = read_folder(str(root), **options).listing
    splits = listing.given or ["-"] * len(listing.ids)
    return [(image, listing.classes[label], split) for image, label, split in zip(listing.ids, listing.labels, splits, strict=True)]


def test_classes_without_splits(tmp_path):
    touch(tmp_path, "cat/2.png", "cat/1.jpg", "ant/x.png")
    assert rows(tmp_path) == [("ant/x.png", "ant", "-"), ("cat/1.jpg", "cat", "-"), ("cat/2.png", "cat", "-")]


def test_split_folders(tmp_path):
    touch(tmp_path, "train/cat/1.jpg", "train/ant/1.jpg", "test/cat/2.jpg", "val/ant/3.jpg")
    assert rows(tmp_path) == [
        ("test/cat/2.jpg", "cat", "test"),
        ("train/ant/1.jpg", "ant", "train"),
        ("train/cat/1.jpg", "cat", "train"),
        ("val/ant/3.jpg", "ant", "val"),
    ]


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "VALIDATION"])
def test_other_names_of_val_mean_val_and_stay_in_the_ids(tmp_path, name):
    touch(tmp_path, "Train/a/1.png", "Train/b/1.png", f"{name}/a/2.png")
    assert (f"{name}/a/2.png", "a", "val") in rows(tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path):
    touch(tmp_path, "train/a/1.png", "val/a/1.png", "valid/a/1.png")
    with pytest.raises(DataError, match="both 'val' and 'valid' mean the split 'val'"):
        read_folder(str(tmp_path))


def test_classes_are_sorted_names_as_in_torchvision(tmp_path):
    from torchvision.datasets import ImageFolder

    touch(tmp_path, *(f"train/{name}/1.png" for name in ["b", "B", "a10", "a9", "ä", "猫", "_", "Z"]), "test/b/1.png")
    assert list(read_folder(str(tmp_path)).listing.classes) == ImageFolder(str(tmp_path / "train")).classes


def test_unicode_names_work(tmp_path):
    touch(tmp_path, "猫/ü b.png", "Hündin/β.PNG")
    assert [row[0] for row in rows(tmp_path)] == ["Hündin/β.PNG", "猫/ü b.png"]


def test_names_that_are_not_utf_8_are_refused_by_name(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(DataError, match=r"caf\\xe9\.png'?: this file name is not valid UTF-8"):
        read_folder(str(tmp_path))


def test_extensions_match_in_any_case_and_other_files_are_ignored(tmp_path):
    touch(tmp_path, "a/1.JPG", "a/2.Png", "a/3.txt", "a/4.jpg.bak", "a/Thumbs.db", "b/5.tiff", "classes.txt", "b/png")
    assert [row[0] for row in rows(tmp_path)] == ["a/1.JPG", "a/2.Png", "b/5.tiff"]


def test_hidden_files_and_folders_are_ignored(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "a/.2.png", ".git/3.png", "a/.cache/4.png", "__MACOSX/a/5.png")
    listing = read_folder(str(tmp_path)).listing
    assert (listing.ids, listing.classes) == (("a/1.png", "b/1.png"), ("a", "b"))


def test_nested_folders_belong_to_their_class(tmp_path):
    touch(tmp_path, "a/2020/may/1.png", "a/2.png", "b/train/3.png")
    assert [row[:2] for row in rows(tmp_path)] == [("a/2.png", "a"), ("a/2020/may/1.png", "a"), ("b/train/3.png", "b")]


def test_files_and_folders_beside_the_splits_are_ignored(tmp_path, caplog):
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "classes.txt", "devkit/c/1.png")
    with caplog.at_level(logging.INFO, "holdfast"):
        assert read_folder(str(tmp_path)).listing.classes == ("a", "b")
    assert "ignored the folders 'devkit'" in caplog.text


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.png", "plane/1.png", "test/1.png")
    listing = read_folder(str(tmp_path)).listing
    assert (listing.classes, listing.given) == (("plane", "test", "train"), None)


def test_classes_without_images_are_listed(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/1.txt", "test/c/1.png")
    assert read_folder(str(tmp_path)).listing.classes == ("a", "b", "c")


def test_a_further_split_folder_is_read_when_named(tmp_path):
    touch(tmp_path, "train/a/1.png", "holdout/a/2.png")
    assert rows(tmp_path, test_split="holdout")[0] == ("holdout/a/2.png", "a", "holdout")
    assert len(rows(tmp_path)) == 1


def test_links_are_followed_and_loops_are_not(tmp_path):
    touch(tmp_path, "store/1.png", "data/a/2.png", "data/b/3.png")
    root = tmp_path / "data"
    (root / "a" / "more").symlink_to(tmp_path / "store")
    (root / "b" / "up").symlink_to(root / "b")
    assert [row[0] for row in rows(root)] == ["a/2.png", "a/more/1.png", "b/3.png"]


def test_a_link_that_leads_nowhere_is_listed_so_that_it_is_reported(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    assert "a/2.png" in read_folder(str(tmp_path)).listing.ids


def test_a_pipe_is_no_image(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    assert "a/2.png" not in read_folder(str(tmp_path)).listing.ids


def test_images_beside_the_class_folders_are_warned_of(tmp_path, caplog):
    touch(tmp_path, "a/1.png", "b/1.png", "3.png", "4.png")
    read_folder(str(tmp_path))
    assert "ignored 2 images that lie beside the class folders" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "there are no images"),
        (["notes.txt"], "there are no images"),
        (["1.png"], r"images such as '[12]\.png' but no class folders"),
        (["train/1.png", "test/2.png"], r"images such as '[12]\.png' but no class folders"),
        (["a/notes.txt", "b/x.heic"], r"no image in its class folders \('a', 'b'\)"),
        (["test/a/1.png", "val/a/1.png"], "no folder 'train' beside 'test', 'val'"),
    ],
)
def test_folders_without_images_are_refused(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        read_folder(str(tmp_path))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="carz: there is no such folder"):
        read_folder(str(tmp_path / "carz"))


def test_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cars\.tar: this is a file; expected a folder"):
        read_folder(str(touch(tmp_path, "cars.tar") / "cars.tar"))


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/1.png")
    scandir = os.scandir

    def guarded(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"b: no permission to read this folder"):
        read_folder(str(tmp_path))


def test_no_image_is_opened(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/1.png")
    monkeypatch.setattr(Image, "open", None)
    assert len(read_folder(str(tmp_path)).listing.ids) == 2
