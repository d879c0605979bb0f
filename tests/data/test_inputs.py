from __future__ import annotations

import pytest
import torch
from PIL import Image

from holdfast.data import list_inputs, load_inputs
from holdfast.errors import DataError


@pytest.fixture
def root(folder):
    root = folder({"a": 3, "b/deep": 2})
    (root / "notes.txt").write_text("none")
    return root


def test_folders_are_expanded_and_files_taken_as_they_are(root):
    odd = root / "odd.dat"
    Image.new("RGB", (20, 20)).save(odd, "PNG")
    files = list_inputs([odd, str(root)])
    assert [file.relative_to(root).as_posix() for file in files] == [
        "odd.dat",
        "a/000.png",
        "a/001.png",
        "a/002.png",
        "b/deep/000.png",
        "b/deep/001.png",
    ]


def test_inputs_have_the_pixels_that_the_test_split_has(load, root, spec):
    data = load(root, augment="none")
    expected = {}
    for split in ("train", "val", "test"):
        for batch in data.batches(split):
            expected.update(
                zip((sorted(data.ids("train") + data.ids("val") + data.ids("test"))[i] for i in batch.index), batch.inputs, strict=True)
            )
    seen = 0
    for files, images in load_inputs([root], spec, batch_size=2):
        assert len(files) == len(images) <= 2
        for file, image in zip(files, images, strict=True):
            assert torch.equal(image, expected[file.relative_to(root).as_posix()])
            seen += 1
    assert seen == 5


def test_paths_are_checked_before_the_first_batch(root, spec, tmp_path):
    with pytest.raises(DataError, match=r"none\.png: there is no such file or folder"):
        load_inputs([root, tmp_path / "none.png"], spec)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: there is no image in this folder"):
        load_inputs([tmp_path / "empty"], spec)


def test_an_unreadable_input_is_named(root, spec):
    (root / "a/001.png").write_bytes(b"spoiled")
    with pytest.raises(DataError, match=r"a/001\.png: the image cannot be read \(not an image"):
        list(load_inputs([root], spec))
