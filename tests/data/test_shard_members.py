"""Examples in a tar archive, found by its headers."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from tests.data.small_shards import png, write_tar

from holdfast.data.shard_members import index_tar
from holdfast.errors import DataError


def index(path):
    with open(path, "rb") as file:
        return index_tar(file)


def read_back(path):
    """Each example as the offsets of its index give it."""
    found, data = index(path), path.read_bytes()
    places = zip(found.keys, found.offsets, found.sizes, found.labels, strict=True)
    return {key: (data[offset : offset + size], label) for key, offset, size, label in places}


def test_members_of_a_key_are_one_example_wherever_they_stand(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        {
            "./000.jpg": b"zero",
            "d/000.json": json.dumps({"label": 7, "width": 3}),
            "000.cls": " cat\n",
            "d/000.WEBP": b"sub",
            "001.png": b"one",
            "001.seg.png": b"ignored",
            "001.cls": "3",
            "001.json": json.dumps({"label": "3"}),
            ".DS_Store": b"ignored",
            "README": b"ignored",
            "notes.md": b"ignored",
        },
    )
    assert read_back(path) == {"000": (b"zero", "cat"), "d/000": (b"sub", "7"), "001": (b"one", "3")}
    assert index(path).unit == "image"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_accents_of_every_form_of_tar(tmp_path, form):
    key = "/".join(["ordner-ü" * 4] * 5)  # longer than a header has room for
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name, data in ((f"{key}.png", png(0)), (f"{key}.cls", "ö".encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert read_back(tmp_path / "a.tar") == {key: (png(0), "ö")}


def test_texts_are_examples_where_there_is_no_image(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.txt": "grün", "0.cls": "a"})
    assert (index(path).unit, read_back(path)) == ("text", {"0": ("grün".encode(), "a")})
    path = write_tar(tmp_path / "b.tar", {"0.txt": "a caption", "0.jpg": b"image", "0.cls": "a"})
    assert (index(path).unit, read_back(path)) == ("image", {"0": (b"image", "a")})


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "it holds no example; expected members such as 000000.jpg and 000000.cls"),
        ({"a.md": "x"}, "it holds no example;"),
        ({"0.jpg": b"x"}, "'0' has no label; expected a member 0.cls, or 0.json with a field label"),
        ({"0.jpg": b"x", "0.json": "{}"}, "'0' has no label;"),
        ({"0.jpg": b"x", "0.json": "[1]"}, "'0' has no label;"),
        ({"0.cls": "a"}, "'0' has a label, but neither an image nor a text (.jpg, .png, .webp, .txt)"),
        ({"0.jpg": b"x", "0.cls": "a", "0.json": '{"label": "b"}'}, "'0' has two labels, 'a' in .cls and 'b' in .json; keep one"),
        ({"0.jpg": b"x", "0.png": b"x", "0.cls": "a"}, "'0' has two images, .jpg and .png; keep one"),
        ({"0.jpg": b"x", "./0.jpg": b"x", "0.cls": "a"}, "'0' has two members .jpg; examples need names of their own"),
        ({"0.jpg": b"x", "0.cls": " \n"}, "the label in 0.cls is empty"),
        ({"0.jpg": b"x", "0.cls": b"\xff\xfe"}, "0.cls is no text in UTF-8"),
        ({"0.txt": b"\xff\xfe", "0.cls": "a"}, "0.txt is no text in UTF-8"),
        ({"0.jpg": b"x", "0.json": "{"}, "0.json is no JSON"),
        ({"0.jpg": b"x", "0.json": '{"label": [1, 2]}'}, "the label in 0.json is [1, 2]; expected a name or a whole number"),
        ({"0.jpg": b"x", "0.json": '{"label": 1.5}'}, "the label in 0.json is 1.5; expected"),
        ({"0.jpg": b"x", "0.cls": "a", "1.txt": "x", "1.cls": "a"}, "'1' is a text and '0' an image; keep one kind"),
    ],
)
def test_an_incomplete_example_is_said(tmp_path, members, sentence):
    with pytest.raises(DataError) as error:
        index(write_tar(tmp_path / "a.tar", members))
    assert str(error.value).startswith(sentence)


WHOLE = {"0.png": png(0), "0.cls": "a", "1.png": png(1), "1.cls": "b"}


def test_a_shard_cut_off_anywhere_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", WHOLE)
    data = path.read_bytes()
    assert len(index(path).keys) == 2
    with tarfile.open(path) as archive:
        end = archive.getmembers()[-1].offset_data + 512
    for cut in (*range(0, end + 1, 512), 1, 100, end - 1, end + 100):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"damaged or cut off|it is cut off: after|holds no example"):
            index(path)


def test_damage_in_a_header_is_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "a.tar", WHOLE)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2].offset
    data[third : third + 8] = b"damaged!"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"it is damaged: byte {third} should begin a member, and does not"):
        index(path)


def test_what_is_no_tar_archive_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    for data, sentence in (
        (b"", "it is no tar archive"),
        (b"\x1f\x8b" + b"x" * 600, "compressed by gzip"),
        (b"x" * 2000, "it is no tar archive"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=sentence):
            index(path)


def test_archives_joined_by_cat_are_refused(tmp_path):
    first, second = (write_tar(tmp_path / f"{name}.tar", {f"{name}.png": png(0), f"{name}.cls": "a"}) for name in "ab")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(DataError, match="there is more after its end; archives are joined by tar --concatenate"):
        index(first)


def test_a_link_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("0.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "1.jpg"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"'0.jpg' is a link; write the archive with tar --dereference"):
        index(tmp_path / "a.tar")
