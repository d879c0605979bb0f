"""The datasets of ``HOLDFAST_DATA``: counts, lists and pixels of real image folders."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as reference

from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.types import InputSpec

pytestmark = pytest.mark.real

SPEC = InputSpec(128, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def unpacked(data_dir, tmp_path_factory):
    """A function (name) that unpacks a dataset once and returns its folder."""
    target = tmp_path_factory.mktemp("real")

    def unpack(name):
        if not (target / name).exists():
            with tarfile.open(data_dir / f"{name}.tar") as archive:
                archive.extractall(target, filter="data")
        return target / name

    return unpack


@pytest.fixture(scope="module")
def cars(unpacked):
    """cars98a with the 25 % list."""
    return load_data(FitConfig(data=str(unpacked("cars98a")), train_list="train_25.txt", val_fraction=0.0), SPEC)


def sizes(data):
    return {split: data.size(split) for split in ("train", "val", "test")}


def test_hymenoptera_with_val_as_test(unpacked):
    data = load_data(FitConfig(data=str(unpacked("hymenoptera")), test_split="val", val_fraction=0.1), SPEC)
    assert data.classes == ("ants", "bees")
    assert sizes(data) == {"train": 220, "val": 24, "test": 153}
    assert np.bincount(data.labels("test")).tolist() == [70, 83]
    assert np.bincount(data.labels("val")).tolist() == [12, 12]  # quotas 12.10 and 11.90 of 123 and 121


def test_cars_with_a_quarter_of_the_training_images(cars, unpacked):
    assert sizes(cars) == {"train": 632, "val": 0, "test": 1644}
    listed = (unpacked("cars98a") / "train_25.txt").read_text().split()
    assert cars.ids("train") == sorted(listed)
    assert cars.splits_record()["val"] is None


@pytest.mark.parametrize(("name", "expected"), [("train_10.txt", 265), ("train_50.txt", 1260)])
def test_the_other_lists(unpacked, data_dir, name, expected):
    for path in (name, str(data_dir / f"cars98a_{name}")):
        data = load_data(FitConfig(data=str(unpacked("cars98a")), train_list=path, val_fraction=0.0, cache="off", workers=0), SPEC)
        assert sizes(data) == {"train": expected, "val": 0, "test": 1644}


def test_a_train_list_leaves_room_for_val(unpacked):
    data = load_data(FitConfig(data=str(unpacked("cars98a")), train_list="train_50.txt"), SPEC)
    assert sizes(data) == {"train": 1134, "val": 126, "test": 1644}
    assert np.bincount(data.labels("train"), minlength=98).min() >= 1


def test_labels_and_pixels_are_those_of_torchvision(cars, unpacked):
    folder = ImageFolder(str(unpacked("cars98a") / "test"))
    assert cars.classes == tuple(folder.classes)
    theirs = dict(folder.samples)
    root = unpacked("cars98a")
    assert [theirs[str(root / image)] for image in cars.ids("test")] == cars.labels("test").tolist()
    batch = next(cars.batches("test", batch_size=16))
    for row, image in enumerate(cars.ids("test")[:16]):
        pixels = reference.pil_to_tensor(folder.loader(str(root / image)))
        view = reference.center_crop(reference.resize(pixels, [146], antialias=True), [128, 128])
        difference = (batch.inputs[row] * 0.5 + 0.5) * 255 - view
        assert difference.abs().max() <= 1.001


def test_workers_serve_the_pixels_of_the_cache_on_real_photographs(cars, unpacked):
    worked = load_data(FitConfig(data=str(unpacked("cars98a")), train_list="train_25.txt", val_fraction=0.0, cache="off", workers=2), SPEC)
    assert worked.fingerprint == cars.fingerprint
    for one, other in zip(*(data.train_batches(epoch=1, seed=2, batch_size=64) for data in (cars, worked)), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
