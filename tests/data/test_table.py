"""Tables of images: what becomes of their columns, and which are refused."""

from __future__ import annotations

import logging
import os
import pickle

import numpy as np
import pytest

from holdfast.data.source import read_bytes
from holdfast.data.table import read_table
from holdfast.errors import DataError


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A function (rows, name) that writes a table beside an empty file for each name in ``files`` and reads it."""
    monkeypatch.chdir(tmp_path)

    def make(text, *, files=("a/1.png", "a/2.png", "b/1.png", "b/2.png"), name="t.csv", test_split=None):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(file)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_table(name, test_split=test_split)

    return make


def rows(source):
    """Id, class and split of each image."""
    listing = source.listing
    given = listing.given or ["-"] * len(listing.ids)
    return [(image, listing.classes[label], split) for image, label, split in zip(listing.ids, listing.labels, given, strict=True)]


def test_ids_are_the_paths_and_classes_the_sorted_labels(table):
    source = table("path,label\nb/1.png,dog\n./a\\2.png,cat\na/1.png,ant\n")
    assert rows(source) == [("a/1.png", "ant", "-"), ("a/2.png", "cat", "-"), ("b/1.png", "dog", "-")]
    assert source.listing.classes == ("ant", "cat", "dog")
    assert source.listing.weights is None
    assert source.listing.columns == {}


def test_an_id_opens_the_file_of_its_row_also_in_another_process(table):
    source = pickle.loads(pickle.dumps(table("id,path,label\nx,a/2.png,p\ny,a/1.png,q\n")))
    assert read_bytes(source, "x") == b"a/2.png"
    assert (source.size("y"), read_bytes(source, "y")) == (7, b"a/1.png")


def test_json_lines_and_csv_say_the_same(table):
    csv = table("path,label,split,weight,eye\na/1.png,3,train,0.5,left\nb/1.png,4,test,2,right\n").listing
    json = table(
        '{"path": "b/1.png", "label": 4, "split": "test", "weight": 2, "eye": "right"}\n'
        '{"path": "a/1.png", "label": 3, "split": "train", "weight": 0.5, "eye": "left"}\n',
        name="t.jsonl",
    ).listing
    assert (csv.ids, csv.classes, csv.given, csv.columns) == (json.ids, json.classes, json.given, json.columns)
    assert csv.labels.tolist() == json.labels.tolist() == [0, 1]
    assert csv.weights.tolist() == json.weights.tolist() == [0.5, 2.0]


def test_ids_weights_splits_and_columns_stay_with_their_image(table):
    listing = table(
        "id,path,label,split,weight,patient\n9,a/1.png,x,train,1,p1\n10,a/2.png,y,test,0,p2\n08,b/1.png,x,Valid,2.5,p3\n"
    ).listing
    assert listing.ids == ("08", "10", "9")
    assert [listing.classes[label] for label in listing.labels] == ["x", "y", "x"]
    assert listing.given == ("val", "test", "train")
    assert listing.weights.tolist() == [2.5, 0.0, 1.0]
    assert listing.columns == {"patient": ("p3", "p2", "p1"), "path": ("b/1.png", "a/2.png", "a/1.png")}


def test_one_image_may_be_in_two_rows_under_two_ids(table):
    assert table("id,path,label\n1,a/1.png,x\n2,a/1.png,y\n").listing.ids == ("1", "2")


def test_columns_of_later_work_are_kept_as_text(table):
    assert table('path,label,votes,caption\na/1.png,x,"x,x,y",hello\nb/1.png,y,y,\n').listing.columns == {
        "votes": ("x,x,y", "y"),
        "caption": ("hello", ""),
    }


@pytest.mark.parametrize("name", ["train", "TRAIN", " Train "])
@pytest.mark.parametrize(("spelled", "means"), [("val", "val"), ("valid", "val"), ("Validation", "val"), ("TEST", "test")])
def test_splits_are_spelled_as_folders_are(table, name, spelled, means):
    assert [row[2] for row in rows(table(f"path,label,split\na/1.png,x,{name}\nb/1.png,y,{spelled}\n"))] == ["train", means]


def test_a_further_split_is_known_when_it_is_tested_on(table):
    text = "path,label,split\na/1.png,x,train\nb/1.png,y,Exam\n"
    assert table(text, test_split="Exam").listing.given == ("train", "Exam")
    with pytest.raises(DataError, match=r"line 3: unknown split 'Exam'.* type --test-split Exam"):
        table(text)


def test_columns_that_are_entirely_empty_are_as_if_they_were_not_there(table):
    listing = table("path,label,split,weight,id\na/1.png,x,,,\nb/1.png,y,,,\n").listing
    assert (listing.given, listing.weights, listing.ids, listing.columns) == (None, None, ("a/1.png", "b/1.png"), {})


def test_labels_in_either_unicode_form_are_one_class(table):
    assert table("path,label\na/1.png,cafe\u0301\na/2.png,caf\u00e9\nb/1.png,tea\n").listing.classes == ("caf\u00e9", "tea")


def test_classes_that_differ_in_capitals_or_blanks_are_warned_of_and_kept(table, caplog):
    listing = table("path,label\na/1.png,red fox\na/2.png,Red Fox\nb/1.png,dog\n").listing
    assert listing.classes == ("Red Fox", "dog", "red fox")
    assert "t.csv: the classes 'Red Fox', 'red fox' differ in capitals or blanks only; are they one?" in caplog.text


def test_a_mistyped_column_is_warned_of_and_kept(table, caplog):
    listing = table("path,label,splt,weights,ident\na/1.png,x,train,2,1\nb/1.png,y,test,1,2\n").listing
    assert (listing.given, listing.weights) == (None, None)
    assert set(listing.columns) == {"splt", "weights", "ident"}
    assert "the column 'splt' has no meaning; did you mean 'split'?" in caplog.text
    assert "the column 'weights' has no meaning; did you mean 'weight'?" in caplog.text
    assert "ident" not in caplog.text


def test_an_honest_table_is_not_warned_of(table, caplog):
    with caplog.at_level(logging.WARNING, "holdfast"):
        table("id,path,label,split,weight,patient,source\n1,a/1.png,x,train,1,p,web\n2,b/1.png,y,train,1,q,web\n")
    assert caplog.text == ""


def test_missing_images_are_left_to_be_reported_with_the_unreadable_ones(table):
    source = table("path,label\na/1.png,x\na/none.png,y\n")
    assert source.listing.ids == ("a/1.png", "a/none.png")
    assert source.size("a/none.png") == 0
    with pytest.raises(DataError, match=r"^no such file or directory$"):
        read_bytes(source, "a/none.png")


def test_paths_are_relative_to_the_table_not_to_the_working_directory(table, tmp_path, monkeypatch):
    table("path,label\na/1.png,x\nb/1.png,y\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = read_table("../t.csv")
    assert read_bytes(source, "a/1.png") == b"a/1.png"
    assert os.path.samefile(source.root, tmp_path)


REFUSED = [
    ("pathh,label\na/1.png,x\n", r"^t\.csv: the column 'path' is missing; rename 'pathh' to 'path'\.$"),
    ("file_name,class\na/1.png,x\n", r"columns 'path' and 'label' are missing; rename 'file_name' to 'path' and rename 'class' to 'label'"),
    ("Image Path,label\na/1.png,x\n", "rename 'Image Path' to 'path'"),
    ("path,quality\na/1.png,x\n", "the column 'label' is missing; the columns are 'path', 'quality'"),
    ("a/1.png,x\nb/1.png,y\n", "the first line holds a row, not the names of the columns; put a line such as path,label above it"),
    ("path,text,label\na/1.png,fine,good\n", r"a column 'path' and a column 'text', so the examples may be images or texts; rename"),
    ("path,votes\na/1.png,x\n", r"there are votes but no column 'label'; .* 'holdfast labels aggregate \S+ --out FILE', and fit to"),
    ("path,label\na/1.png,x\nb/1.png,\n", r"one row has no label \(line 3\); write the class of each image"),
    ("path,label\na/1.png,\nb/1.png,\na/2.png,z", r"2 rows have no label \(lines 2, 3\)"),
    ("path,label\n,x\nb/1.png,y\n", r"one row has no path \(line 2\)"),
    (
        "path,label\na/1.png,x\nb/1.png,y\na\\1.png,x\n",
        r"the image 'a/1\.png' is in more than one row \(lines 2, 4\); keep one row of each",
    ),
    ("path,label\na/1.png,x\na/1.png,y\nb/1.png,y\nb/1.png,y\n", r"\(lines 2, 3\), the first of 2 such; keep"),
    ("path,label,id\na/1.png,x,7\nb/1.png,y,7\n", r"the id '7' is in more than one row \(lines 2, 3\); give each row an id of its own"),
    ("path,label,id\na/1.png,x,7\nb/1.png,y,\n", r"one row has no id \(line 3\)"),
    ("path,label,split\na/1.png,x,train\nb/1.png,y,\n", r"one row has no split \(line 3\); write train, val or test"),
    (
        "path,label,split\na/1.png,x,train\nb/1.png,y,trainn\na/2.png,y,tets",
        r"line 3: unknown split 'trainn', the first of 2 such; .* did you mean 'train'\?$",
    ),
    ("path,label,split\na/1.png,x,test\nb/1.png,y,val\n", "no row is of the split train; there is only 'test', 'val'"),
    ("path,label,weight\na/1.png,x,1\nb/1.png,y,-1\n", "line 3: the weight '-1' is no number of at least 0; write one such as 0.5"),
    (
        "path,label,weight\na/1.png,x,heavy\nb/1.png,y,inf\n",
        "line 2: the weight 'heavy' is no number of at least 0, the first of 2 such; write",
    ),
    ("path;label;weight\na/1.png;x;0,5\nb/1.png;y;1\n", "line 2: the weight '0,5' is no number"),
    ("path,label,weight\na/1.png,x,nan\nb/1.png,y,1\n", "line 2: the weight 'nan' is no number"),
    ("path,label,weight\na/1.png,x,1\nb/1.png,y,\n", r"one row has no weight \(line 3\); write 1 where nothing is special"),
    ("path,label,weight\na/1.png,x,0\nb/1.png,y,0\n", "all weights are 0"),
    (
        "path,label\na/1.png,x\nhttps://example.org/b.png,y\n",
        r"line 3: 'https://example\.org/b\.png' is no file; download the images first",
    ),
    (
        "path,label\nq/1.png,x\nq/2.png,y\n",
        r"none of its 2 images exists \('q/1\.png', 'q/2\.png'\); paths are relative to the folder of the ",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_tables_that_cannot_be_used_are_refused_in_one_line(table, text, message):
    with pytest.raises(DataError, match=message) as error:
        table(text)
    assert "\n" not in str(error.value)


def test_paths_relative_to_the_working_directory_are_recognised(table, tmp_path):
    table("path,label\na/1.png,x\nb/1.png,y\n")
    (tmp_path / "lists").mkdir()
    with pytest.raises(DataError, match=r"none of its 2 images exists.* relative to the working directory; move the table there"):
        table("path,label\na/1.png,x\nb/1.png,y\n", name="lists/t.csv")


def test_weights_are_float64(table):
    assert table("path,label,weight\na/1.png,x,0.1\nb/1.png,y,1\n").listing.weights.dtype == np.float64
