from __future__ import annotations

import pytest

from holdfast.catalog import DATASETS
from holdfast.data.opening import DEMOS, open_source
from holdfast.errors import DataError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:none", "hf:none: there is no folder 'none'"),
        ("torchvision:DTD@none", "torchvision:DTD@none: there is no 'dtd/dtd' in the folder 'none'"),
        ("none/labels.csv", r"none/labels\.csv: there is no such file; expected a table"),
        ("none/LABELS.JSONL", r"none/LABELS\.JSONL: there is no such file; expected a table"),
        ("none/labels.tsv", r"none/labels\.tsv: there is no such file; expected a table"),
        ("none/labels.json", r"none/labels\.json: a table of this kind is read from JSON lines"),
        ("none", "none: there is no such folder; expected a folder of images"),
        ("demo:none", "demo:none: unknown demo dataset 'none'"),
    ],
)
def test_each_kind_of_data_is_opened_in_its_own_way(spec, message):
    with pytest.raises(DataError, match=message):
        open_source(spec)


def test_a_folder_may_be_called_like_a_table(tmp_path):
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "cars.csv" / name).parent.mkdir(parents=True)
        (tmp_path / "cars.csv" / name).touch()
    assert open_source(str(tmp_path / "cars.csv")).listing.ids == ("a/1.png", "b/1.png")


def test_unknown_demo_is_suggested_the_nearest():
    with pytest.raises(DataError, match=r"unknown demo dataset 'digit'\. Did you mean 'digits'\?"):
        open_source("demo:digit")


def test_demos_are_those_of_the_catalog():
    assert set(DEMOS) == set(DATASETS["demo"].members)
