"""Datasets as this room reads and writes them: the table that is written is one that ``fit`` reads, with the same images and splits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from holdfast.config.schema import FitConfig
from holdfast.data.opening import open_source
from holdfast.data.source import read_bytes
from holdfast.data.splits import make_splits
from holdfast.errors import DataError
from holdfast.labels.examples import read_examples, write_examples


@pytest.fixture
def folder(tmp_path):
    """Two classes of eight images each; each image is of a colour of its own."""
    for number in range(16):
        file = tmp_path / "birds" / ("crow" if number % 2 else "gull, grey") / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (16 * number, 0, 0)).save(file)
    return tmp_path / "birds"


@pytest.fixture
def table(tmp_path):
    def write(text, name="data.csv"):
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return write


@pytest.mark.parametrize("name", ["noisy.csv", "deeper/noisy.jsonl"])
def test_a_folder_becomes_a_table_of_the_same_images(folder, tmp_path, name):
    examples = read_examples(str(folder))
    written = tmp_path / name
    write_examples(str(written), examples, {"label": ["crow"] * 16, "true_label": examples.labels})
    source, original = open_source(str(written)), open_source(str(folder))
    assert source.listing.ids == examples.ids
    assert set(source.listing.classes) == {"crow"}
    for image in examples.ids:
        assert read_bytes(source, image) == read_bytes(original, image)
    again = read_examples(str(written))
    assert again.columns["true_label"] == examples.labels
    assert again.image(3) == examples.image(3)


def test_images_in_memory_are_written_beside_the_table(tmp_path):
    examples = read_examples("demo:digits")
    written = tmp_path / "few.csv"
    write_examples(str(written), examples, {}, rows=[5, 0])
    source = open_source(str(written))
    assert source.listing.ids == ("digits/0000", "digits/0005")
    assert read_bytes(source, "digits/0005") == examples.image(5)
    assert sorted(file.name for file in (tmp_path / "few_images").iterdir()) == ["digits_0000.pgm", "digits_0005.pgm"]


def test_splits_are_those_that_fit_cuts(folder):
    options = FitConfig(data=str(folder), data_seed=3)
    examples = read_examples(str(folder)).with_splits(options)
    listing = open_source(str(folder)).listing
    for split, rows in make_splits(listing, options).rows.items():
        assert {name for name, found in zip(examples.ids, examples.splits, strict=True) if found == split} == {
            listing.ids[row] for row in rows
        }


def test_given_splits_stay_and_choose_rows(table):
    examples = read_examples(table("text,label,split\na,x,train\nb,y,valid\nc,x,train\n"))
    assert examples.splits == ("train", "val", "train")
    assert examples.with_splits(FitConfig(data="d")).splits == ("train", "val", "train")
    assert np.flatnonzero(examples.in_split("val")).tolist() == [1]
    assert examples.in_split("all").all()
    with pytest.raises(DataError, match=r"--split test: .* has no such row; its splits are 'train', 'val'"):
        examples.in_split("test")


def test_texts_keep_their_columns_and_votes_stay_nested(table, tmp_path):
    examples = read_examples(table('{"text": "hi, \\"you\\"", "label": "a", "votes": {"r1": "a"}, "source": "web"}\n', "t.jsonl"))
    written = tmp_path / "out.jsonl"
    write_examples(str(written), examples, {"label": ["b"]})
    assert json.loads(written.read_text()) == {"text": 'hi, "you"', "label": "b", "votes": {"r1": "a"}, "source": "web"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("text,label\nhello,a\n,b\n", r"one row has no text \(line 3\)"),
        ("text,label\nhello,a\nyou,\n", r"one row has no label \(line 3\)"),
        ("body,label\nhello,a\n", "neither a column 'path' nor a column 'text'"),
        ("id,text,label\n1,x,a\n1,y,b\n", "'1' names more than one row"),
        ("text,label,split\nx,a,train\ny,b,\n", r"some rows have no split \(line 3\)"),
    ],
)
def test_a_table_that_is_wrong_is_named(table, text, words):
    with pytest.raises(DataError, match=words):
        read_examples(table(text))


def test_an_unknown_class_is_named_with_its_line(table):
    examples = read_examples(table("text,label\nx,a\ny,b\n"))
    with pytest.raises(DataError, match="line 3: the label is 'b'; the classes are 'a'"):
        examples.indices(examples.labels, ("a",), "the label")
