"""Parts of files, local and behind URLs."""

from __future__ import annotations

import io
import os

import fsspec
import pytest
from PIL import Image
from tests.data.small_shards import png

from holdfast.data import file_systems
from holdfast.data.file_systems import find, is_local, open_part, stat
from holdfast.errors import DataError, DependencyError


@pytest.fixture(params=["path", "file", "memory"])
def url(request, tmp_path):
    """A file of ten bytes by its path, by its URL, and on a file system that is none."""
    (tmp_path / "f.bin").write_bytes(b"0123456789")
    if request.param == "memory":
        system = fsspec.filesystem("memory")
        system.pipe(f"{tmp_path}/f.bin", b"0123456789")
        return f"memory:/{tmp_path}/f.bin"
    return f"file://{tmp_path}/f.bin" if request.param == "file" else str(tmp_path / "f.bin")


def test_a_part_is_a_file_of_its_own(url):
    with open_part(url, 3, 4) as part:
        assert part.read(2) + part.read() == b"3456"
        assert part.seek(-1, os.SEEK_END) == 3
        assert part.read() == b"6"
        part.seek(1)
        part.seek(1, os.SEEK_CUR)
        assert (part.tell(), part.read(100), part.read()) == (2, b"56", b"")
    with open_part(url, 10, 0) as part:
        assert part.read() == b""


def test_a_part_beyond_the_end_is_an_error_and_not_fewer_bytes(url):
    with pytest.raises(OSError, match="has become shorter since it was listed"), open_part(url, 8, 3) as part:
        part.read()


def test_of_a_large_part_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"." * 7 + png(1) + b"\0" * 10**6)
    asked = []
    real = file_systems._Part.readinto
    monkeypatch.setattr(file_systems._Part, "readinto", lambda self, buffer: asked.append(len(buffer)) or real(self, buffer))
    with open_part(str(tmp_path / "f"), 7, 10**6) as part, Image.open(part) as image:
        assert image.size == (20, 19)
    assert 0 < sum(asked) < 20_000


def test_pictures_decode_from_a_part(tmp_path):
    (tmp_path / "f").write_bytes(b"." * 7 + png(1) + b"..")
    with open_part(str(tmp_path / "f"), 7, len(png(1))) as part, Image.open(part) as image:
        assert image.tobytes() == Image.open(io.BytesIO(png(1))).tobytes()


def test_a_file_has_a_size_and_a_stamp_that_changes_when_it_is_written(url):
    before = stat(url)
    assert before.size == 10
    system, path = file_systems.locate(url)
    if not is_local(url) and url.startswith("memory"):
        system.pipe(path, b"9876543210")
    else:
        os.utime(path, ns=(0, 0))
    assert stat(url).size == 10
    assert stat(url).stamp != before.stamp


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        stat(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        stat(str(tmp_path / "none"))


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_folders_and_stars_stand_for_the_archives_there(tmp_path, prefix):
    for name in ("b.tar", "a.tar", "a.tar.index.json", "train/c.tar", "train/deep/d.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = f"{prefix}{tmp_path}"
    assert find(root) == [f"{root}/a.tar", f"{root}/b.tar", f"{root}/train/c.tar"]
    assert find(f"{root}/?.tar") == [f"{root}/a.tar", f"{root}/b.tar"]
    assert find(f"{root}/x*.tar") == []
    assert find(f"{root}/none.tar") == [f"{root}/none.tar"]


@pytest.mark.parametrize(
    ("url", "error", "sentence"),
    [
        ("nosuch://a/b.tar", DataError, "nosuch://a/b.tar: this kind of URL cannot be read (protocol not known: nosuch)."),
        ("abfs://a/b.tar", DependencyError, "abfs://a/b.tar: a package for this kind of URL is missing (Install adlfs"),
    ],
)
def test_a_url_of_another_kind_is_said(url, error, sentence):
    if url.startswith("abfs") and _installed("adlfs"):
        pytest.skip("adlfs is installed")
    with pytest.raises(error) as caught:
        find(url)
    assert str(caught.value).startswith(sentence)


def _installed(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None
