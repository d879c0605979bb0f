"""From a path as somebody wrote it to the file it means."""

from __future__ import annotations

import os
import unicodedata

import pytest

from holdfast.data.locate import Locator, composed

NFC, NFD = (unicodedata.normalize(form, "Hündin/é.png") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    for name in ("a/1.png", "a/b\\c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "beside.png").touch()
    return root


@pytest.mark.parametrize(
    "spelled", ["a/1.png", "./a/1.png", "a//1.png", "a/../a/1.png", "a\\1.png", ".\\a\\1.png", "a\\/1.png", "../data/a/1.png"]
)
def test_spellings_of_one_path(root, spelled):
    assert Locator(root).locate(spelled) == ("a/1.png", f"{root}/a/1.png")


def test_absolute_paths_below_the_folder_become_relative(root):
    assert Locator(root).locate(f"{root}/a/1.png") == ("a/1.png", f"{root}/a/1.png")


def test_absolute_paths_fit_a_folder_reached_through_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    locator = Locator(tmp_path / "link")
    assert locator.locate(f"{root}/a/1.png")[0] == "a/1.png"
    assert locator.locate(f"{tmp_path}/link/a/1.png")[0] == "a/1.png"


@pytest.mark.parametrize("spelled", ["../beside.png", "..\\beside.png", "absolute"])
def test_files_outside_the_folder_are_found(root, tmp_path, spelled):
    image, file = Locator(root).locate(str(tmp_path / "beside.png") if spelled == "absolute" else spelled)
    assert image == "../beside.png"
    assert os.path.samefile(file, tmp_path / "beside.png")


def test_a_relative_folder_works(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert os.path.samefile(Locator(os.path.relpath(root)).locate("a/1.png")[1], root / "a/1.png")


def test_a_backslash_in_a_name_is_itself_where_such_a_file_exists(root):
    assert Locator(root).locate("a/b\\c.png")[0] == "a/b\\c.png"


@pytest.mark.parametrize(("on_disk", "in_table"), [(NFC, NFD), (NFD, NFC), (NFD, NFC.replace("/", "\\"))])
def test_accents_are_found_in_either_form_and_the_id_is_as_written(tmp_path, on_disk, in_table):
    (tmp_path / on_disk).parent.mkdir()
    (tmp_path / on_disk).touch()
    image, file = Locator(tmp_path).locate(in_table)
    assert (image, file) == (in_table.replace("\\", "/"), f"{tmp_path}/{on_disk}")


@pytest.mark.parametrize("spelled", ["a/2.png", "b/1.png", "a/é.png", "ü/é.png", "nul\0.png", "x" * 5000])
def test_what_is_not_there_keeps_the_name_it_would_have(root, spelled):
    assert Locator(root).locate(spelled) == (spelled, f"{root}/{spelled}")


def test_composed_text_has_one_form():
    assert composed(NFD) == composed(NFC) == NFC
