"""Datasets of the Hugging Face library, written to disk by it and read back."""

from __future__ import annotations

import io
import logging
import pickle
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decode import decode_rgb
from holdfast.data.hf_folder import read_hf_folder
from holdfast.data.source import read_bytes
from holdfast.errors import DataError, DependencyError

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path, monkeypatch):
    """Caches go to a folder of the test, nothing reaches the network, and the library is as quiet as in a user's log file."""

    connect = socket.socket.connect

    def refuse(connection, address):
        assert connection.family == socket.AF_UNIX, f"a connection to {address} was opened"  # worker processes send through these
        connect(connection, address)

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def picture(number):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (6 + number % 3, 8, 3), dtype=np.uint8))


def make(labels, *, names=("wolf", "ant", "owl"), first=0, **columns):
    """A dataset with a picture for each label, lossless, and further columns."""
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string" if isinstance(labels[0], str) else "int64")
    features = {"image": datasets.Image(), "label": label}
    features |= {name: datasets.Value("string" if isinstance(cells[0], str) else "float64") for name, cells in columns.items()}
    values = {"image": [picture(first + row) for row in range(len(labels))], "label": labels, **columns}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def rows(source):
    listing = source.listing
    given = listing.given or ["-"] * len(listing.ids)
    return [(image, listing.classes[label], split) for image, label, split in zip(listing.ids, listing.labels, given, strict=True)]


THREE = [
    ("test/000000", "owl", "test"),
    ("train/000000", "wolf", "train"),
    ("train/000001", "ant", "train"),
    ("train/000002", "wolf", "train"),
    ("validation/000000", "ant", "val"),
]


@pytest.fixture
def parts():
    return {"train": make([0, 1, 0]), "validation": make([1], first=3), "test": make([2], first=4)}


def test_a_saved_dict_of_splits(tmp_path, parts):
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert rows(source) == THREE
    assert source.listing.classes == ("ant", "owl", "wolf")


@pytest.mark.parametrize("below", ["", "data"])
def test_parquet_files_named_after_their_splits(tmp_path, parts, below):
    (tmp_path / "d" / below).mkdir(parents=True)
    for name, part in parts.items():
        part.to_parquet(str(tmp_path / "d" / below / f"{name}-00000-of-00001.parquet"))
    assert rows(read_hf_folder(f"hf:{tmp_path}/d")) == THREE


def test_a_dataset_without_splits_has_none(tmp_path):
    make([0, 1, 0]).save_to_disk(str(tmp_path / "d"))
    assert rows(read_hf_folder(f"hf:{tmp_path}/d")) == [
        ("all/000000", "wolf", "-"),
        ("all/000001", "ant", "-"),
        ("all/000002", "wolf", "-"),
    ]


def test_pixels_arrive_unchanged_also_in_another_process(tmp_path, parts):
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    source = pickle.loads(pickle.dumps(read_hf_folder(f"hf:{tmp_path}/d")))
    for image, number in (("train/000000", 0), ("train/000002", 2), ("validation/000000", 3), ("test/000000", 4)):
        data = read_bytes(source, image)
        assert np.array_equal(decode_rgb(data), picture(number))
        assert source.size(image) == len(data)


def test_rows_keep_their_place_when_a_selection_was_saved(tmp_path):
    make([0, 1, 2, 1]).select([3, 0]).save_to_disk(str(tmp_path / "d"))
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert [row[1] for row in rows(source)] == ["ant", "wolf"]
    data = read_bytes(source, "all/000000")
    assert np.array_equal(decode_rgb(data), picture(3))
    assert source.size("all/000000") == len(data)


def test_a_format_that_was_saved_along_changes_nothing(tmp_path):
    make([0, 1], patient=["p1", "p2"]).with_format("numpy", columns=["label"]).save_to_disk(str(tmp_path / "d"))
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert source.listing.columns == {"patient": ("p1", "p2")}
    assert np.array_equal(decode_rgb(read_bytes(source, "all/000001")), picture(1))


@pytest.mark.parametrize("labels", [["b", "a", "b"], [7, 10, 7]])
def test_labels_may_be_text_or_whole_numbers(tmp_path, labels):
    make(labels, names=()).save_to_disk(str(tmp_path / "d"))
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert source.listing.classes == tuple(sorted({str(label) for label in labels}))
    assert [row[1] for row in rows(source)] == [str(label) for label in labels]


def test_columns_may_have_other_names_where_only_one_fits(tmp_path):
    made = make([0, 1]).rename_columns({"image": "photo", "label": "kind"})
    made.save_to_disk(str(tmp_path / "d"))
    assert [row[1] for row in rows(read_hf_folder(f"hf:{tmp_path}/d"))] == ["wolf", "ant"]


def test_texts_become_columns_for_grouping(tmp_path):
    made = make([0, 1], patient=["p1", "p2"], score=[0.5, 0.25])
    datasets.DatasetDict(train=made, test=make([0], patient=["p3"])).save_to_disk(str(tmp_path / "d"))
    assert read_hf_folder(f"hf:{tmp_path}/d").listing.columns == {"patient": ("p3", "p1", "p2")}


def test_images_may_be_paths(tmp_path):
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "d").mkdir()
    cells = [{"bytes": None, "path": str(tmp_path / name)} for name in ("0.png", "gone.png")]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({"image": pa.array(cells, kind), "label": [0, 1]}), tmp_path / "d" / "train.parquet")
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert np.array_equal(decode_rgb(read_bytes(source, "train/000000")), picture(0))
    assert source.size("train/000000") == 0
    with pytest.raises(DataError, match="no such file or directory"):
        read_bytes(source, "train/000001")


def test_parquet_files_written_without_the_library(tmp_path):
    def encoded(number):
        file = io.BytesIO()
        picture(number).save(file, "PNG")
        return file.getvalue()

    (tmp_path / "d").mkdir()
    table = pa.table({"image": [encoded(0), encoded(1)], "label": ["x", "y"]})
    parquet.write_table(table, tmp_path / "d" / "train.parquet")
    source = read_hf_folder(f"hf:{tmp_path}/d")
    assert rows(source) == [("train/000000", "x", "train"), ("train/000001", "y", "train")]
    assert read_bytes(source, "train/000001") == encoded(1)


def test_splits_of_other_names_are_ignored_unless_tested_on(tmp_path, caplog):
    datasets.DatasetDict(train=make([0, 1]), exam=make([1]), unsupervised=make([2])).save_to_disk(str(tmp_path / "d"))
    with caplog.at_level(logging.INFO, "holdfast"):
        assert {row[2] for row in rows(read_hf_folder(f"hf:{tmp_path}/d"))} == {"train"}
    assert "ignored the splits 'exam', 'unsupervised'" in caplog.text
    assert {row[2] for row in rows(read_hf_folder(f"hf:{tmp_path}/d", test_split="exam"))} == {"train", "exam"}


def test_a_test_split_without_labels_is_left_out_and_warned_of(tmp_path, caplog):
    datasets.DatasetDict(train=make([0, 1]), test=make([-1, -1])).save_to_disk(str(tmp_path / "d"))
    assert {row[2] for row in rows(read_hf_folder(f"hf:{tmp_path}/d"))} == {"train"}
    assert "the split 'test' has no labels and is left out" in caplog.text


REFUSED = [
    (lambda: datasets.DatasetDict(train=make([0, -1, 1])), r"one row has no label \(row 1 of 'train' is the first\); remove them"),
    (lambda: datasets.DatasetDict(train=make([-1, -1])), r"2 rows have no label \(row 0 of 'train'"),
    (lambda: datasets.DatasetDict(train=make([0, 1]), test=make([0, -1])), r"one row has no label \(row 1 of 'test'"),
    (lambda: make(["a", None], names=()), r"one row has no label \(row 1 of 'all'"),
    (lambda: datasets.DatasetDict(val=make([0, 1]), test=make([0])), "there is no split 'train', only 'val', 'test'"),
    (lambda: datasets.DatasetDict(train=make([0]), val=make([0]), valid=make([0])), "two of the splits .* mean 'val'"),
    (lambda: make([0, 1]).remove_columns("label"), "there is no column of labels; the columns are 'image'; name it 'label'"),
    (lambda: make([0, 1]).remove_columns("image"), "there is no column of images; the columns are 'label'; name it 'image'"),
    (
        lambda: make([0, 1]).rename_column("label", "a").add_column("b", [0, 1], feature=datasets.ClassLabel(names=["x", "y"])),
        "'a', 'b' hold labels; rename the one that is meant to 'label'",
    ),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_datasets_that_cannot_be_used_are_refused_in_one_line(tmp_path, build, message):
    build().save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=message) as error:
        read_hf_folder(f"hf:{tmp_path}/d")
    assert "\n" not in str(error.value)


def test_a_row_without_an_image_is_unreadable_by_name(tmp_path, load):
    made = make([0, 1] * 4, names=("a", "b"))
    made = made.map(lambda row, number: {"image": None if number == 3 else row["image"]}, with_indices=True)
    made.save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"1 of 8 images cannot be read: all/000003 \(the row holds no image\)"):
        load(f"hf:{tmp_path}/d")
    assert load(f"hf:{tmp_path}/d", skip_bad=True).size("train") == 5


def test_a_name_of_the_hub_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"there is no folder 'uoft-cs/cifar10', and holdfast downloads no datasets; .*/cifar10 --local-dir cifar10, then"
    ):
        read_hf_folder("hf:uoft-cs/cifar10")


def test_a_folder_that_holds_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"this folder cannot be read as a dataset \(.*\); expected what save_to_disk wrote, or Parquet"):
        read_hf_folder(f"hf:{tmp_path}")


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyError, match=r'this needs the package datasets; type pip install "holdfast\[hf\]"'):
        read_hf_folder(f"hf:{tmp_path}")


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_are_left_as_they_were(tmp_path, shown):
    make([0, 1]).save_to_disk(str(tmp_path / "d"))
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    read_hf_folder(f"hf:{tmp_path}/d")
    assert datasets.are_progress_bars_disabled() is not shown


def test_a_dataset_loads_like_any_other_also_through_worker_processes(tmp_path, load):
    datasets.DatasetDict(train=make([0, 1] * 6, names=("a", "b")), test=make([0, 1], names=("a", "b"), first=20)).save_to_disk(
        str(tmp_path / "d")
    )
    data, streamed = load(f"hf:{tmp_path}/d"), load(f"hf:{tmp_path}/d", cache="off", workers=1)
    assert [data.size(split) for split in ("train", "val", "test")] == [11, 1, 2]
    assert data.fingerprint == streamed.fingerprint
    for one, other in zip(data.batches("test"), streamed.batches("test"), strict=True):
        assert one.inputs.equal(other.inputs)
