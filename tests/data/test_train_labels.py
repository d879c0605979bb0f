"""``--train-labels``: labels and weights in the place of those of training examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.data.train_labels import TrainLabels, read_train_labels
from holdfast.errors import DataError
from holdfast.types import InputSpec

IDS, GIVEN, TRAINED, CLASSES = ("a", "b", "c", "d"), np.array([0, 1, 0, 1]), np.array([0, 1, 2]), ("cat", "dog")


def read(folder: Path, text: str) -> TrainLabels:
    file = folder / "labels.csv"
    file.write_text(text)
    return read_train_labels(str(file), spec="pets.csv", ids=IDS, labels=GIVEN, trained=TRAINED, classes=CLASSES)


def test_rows_that_are_named_get_their_label_and_others_keep_theirs(tmp_path: Path):
    found = read(tmp_path, "id,label\nc,dog\na,cat\n")
    assert (found.labels.tolist(), found.weights) == ([0, 1, 1, 1], None)
    assert GIVEN.tolist() == [0, 1, 0, 1]


def test_rows_without_a_weight_count_as_one(tmp_path: Path):
    found = read(tmp_path, "id,label,weight,remark\nc,dog,0.25,x\n")
    assert found.weights is not None
    assert found.weights.tolist() == [1, 1, 0.25, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,class\na,cat\n", "some rows have no label; expected the columns id and label"),
        ("id,label\n,cat\n", "some rows have no id"),
        ("id,label\nd,cat\n", "no training example of pets.csv is called 'd'"),
        ("id,label\na,cat\na,dog\n", "'a' is in more than one row"),
        ("id,label\na,cow\n", "line 2: unknown class 'cow'. Known: cat, dog."),
        ("id,label,weight\na,cat,-1\n", "line 2: the weight '-1' is no number of at least 0"),
        ("id,label,weight\na,cat,nan\n", "the weight 'nan' is no number"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_words(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(DataError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"--train-labels {tmp_path / 'labels.csv'}")
    assert sentence in str(error.value)


def test_training_sees_them_val_does_not_and_what_was_given_is_remembered(tmp_path: Path):
    spec = InputSpec(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    plain = load_data(FitConfig(data="demo:digits"), spec)
    first = plain.ids("train")[:2]
    table = tmp_path / "labels.csv"
    table.write_text("id,label,weight\n" + "".join(f"{name},9,0.5\n" for name in first))
    data = load_data(FitConfig(data="demo:digits", train_labels=str(table)), spec)
    assert data.labels("train")[:2].tolist() == [9, 9]
    np.testing.assert_array_equal(data.labels("train")[2:], plain.labels("train")[2:])
    np.testing.assert_array_equal(data.given_labels("train"), plain.labels("train"))
    for split in ("val", "test"):
        np.testing.assert_array_equal(data.labels(split), plain.labels(split))
    assert data.weighted
    assert data.fingerprint != plain.fingerprint
