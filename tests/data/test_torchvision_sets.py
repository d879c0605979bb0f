"""Datasets of torchvision in the layouts that torchvision expects, tiny and made here."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from holdfast.catalog import DATASETS
from holdfast.data.decode import decode_rgb
from holdfast.data.source import Listing, read_bytes
from holdfast.data.torchvision_sets import TORCHVISION_SETS, ArraySource, read_torchvision
from holdfast.errors import DataError


def write_images(folder, *names):
    """A small image of its own colour for each name."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (number, 0, 0)).save(folder / name)


def write_lines(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def checksum(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def make_aircraft(root, monkeypatch):
    data = root / "fgvc-aircraft-2013b" / "data"
    write_lines(data / "variants.txt", "Yak-42", "707-320")
    write_lines(data / "images_variant_train.txt", "0000001 Yak-42", "0000002 707-320")
    write_lines(data / "images_variant_val.txt", "0000003 707-320")
    write_lines(data / "images_variant_test.txt", "0000004 Yak-42")
    write_images(data / "images", *(f"000000{number}.jpg" for number in (1, 2, 3, 4)))


def make_dtd(root, monkeypatch):
    folder = root / "dtd" / "dtd"
    images = {"train": ("dotted/1.jpg", "woven/1.jpg"), "val": ("woven/2.jpg",), "test": ("dotted/3.jpg",)}
    for split, names in images.items():
        write_lines(folder / "labels" / f"{split}1.txt", *names)
        write_images(folder / "images", *names)


def make_flowers(root, monkeypatch):
    folder = root / "flowers-102"
    write_images(folder / "jpg", *(f"image_0000{number}.jpg" for number in range(1, 7)))
    savemat(folder / "imagelabels.mat", {"labels": np.array([[2, 1, 1, 2, 1, 2]])})
    savemat(folder / "setid.mat", {"trnid": np.array([[6, 2]]), "valid": np.array([[3, 4]]), "tstid": np.array([[1, 5]])})
    known = torchvision.datasets.Flowers102
    files = {"image": known._file_dict["image"]}
    files |= {key: (name, checksum(folder / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    monkeypatch.setattr(known, "_file_dict", files)


def make_food(root, monkeypatch):
    folder = root / "food-101"
    for split, listed in (("train", {"waffles": ["waffles/1"], "nachos": ["nachos/2"]}), ("test", {"waffles": [], "nachos": ["nachos/3"]})):
        write_lines(folder / "meta" / f"{split}.json", json.dumps(listed))
        write_images(folder / "images", *(f"{name}.jpg" for names in listed.values() for name in names))


def make_pets(root, monkeypatch):
    folder = root / "oxford-iiit-pet"
    write_lines(folder / "annotations" / "trainval.txt", "Bombay_7 1 1 1", "great_dane_1 2 2 1")
    write_lines(folder / "annotations" / "test.txt", "Bombay_9 1 1 1", "great_dane_3 2 2 1")
    write_images(folder / "images", "Bombay_7.jpg", "great_dane_1.jpg", "Bombay_9.jpg", "great_dane_3.jpg")


def make_cars(root, monkeypatch):
    folder = root / "stanford_cars"
    write_images(folder, "cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg", "cars_test/00002.jpg")
    (folder / "devkit").mkdir()
    kind = [("fname", "O"), ("class", "O")]
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi S4", "AM General"], dtype=object)})
    for name, labels in (("devkit/cars_train_annos.mat", (2, 1)), ("cars_test_annos_withlabels.mat", (1, 1))):
        entries = [(f"0000{number}.jpg", label) for number, label in enumerate(labels, start=1)]
        savemat(folder / name, {"annotations": np.array(entries, dtype=kind)})


def make_cifar(name, place, label_key, meta):
    def make(root, monkeypatch):
        folder = root / place
        folder.mkdir(parents=True)
        known = getattr(torchvision.datasets, name)
        lists = {}
        for split, labels in (("train_list", [1, 0, 1]), ("test_list", [0])):
            pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
            (folder / split).write_bytes(pickle.dumps({"data": pixels, label_key: labels}))
            lists[split] = [[split, checksum(folder / split)]]
        (folder / "meta").write_bytes(pickle.dumps({meta: ["ship", "cat"]}))
        for split, listed in lists.items():
            monkeypatch.setattr(known, split, listed)
        monkeypatch.setattr(known, "meta", {"filename": "meta", "key": meta, "md5": checksum(folder / "meta")})

    return make


MAKERS = {
    "cifar10": make_cifar("CIFAR10", "cifar-10-batches-py", "labels", "label_names"),
    "cifar100": make_cifar("CIFAR100", "cifar-100-python", "fine_labels", "fine_label_names"),
    "dtd": make_dtd,
    "fgvc-aircraft": make_aircraft,
    "flowers102": make_flowers,
    "food101": make_food,
    "oxford-iiit-pet": make_pets,
    "stanford-cars": make_cars,
}

CIFAR = [
    ("test/000000", "ship", "test"),
    ("train/000000", "cat", "train"),
    ("train/000001", "ship", "train"),
    ("train/000002", "cat", "train"),
]
IMAGES = "fgvc-aircraft-2013b/data/images"

EXPECTED = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "dtd": [
        ("dtd/dtd/images/dotted/1.jpg", "dotted", "train"),
        ("dtd/dtd/images/dotted/3.jpg", "dotted", "test"),
        ("dtd/dtd/images/woven/1.jpg", "woven", "train"),
        ("dtd/dtd/images/woven/2.jpg", "woven", "val"),
    ],
    "fgvc-aircraft": [
        (f"{IMAGES}/0000001.jpg", "Yak-42", "train"),
        (f"{IMAGES}/0000002.jpg", "707-320", "train"),
        (f"{IMAGES}/0000003.jpg", "707-320", "val"),
        (f"{IMAGES}/0000004.jpg", "Yak-42", "test"),
    ],
    "flowers102": [
        ("flowers-102/jpg/image_00001.jpg", "hard-leaved pocket orchid", "test"),
        ("flowers-102/jpg/image_00002.jpg", "pink primrose", "train"),
        ("flowers-102/jpg/image_00003.jpg", "pink primrose", "val"),
        ("flowers-102/jpg/image_00004.jpg", "hard-leaved pocket orchid", "val"),
        ("flowers-102/jpg/image_00005.jpg", "pink primrose", "test"),
        ("flowers-102/jpg/image_00006.jpg", "hard-leaved pocket orchid", "train"),
    ],
    "food101": [
        ("food-101/images/nachos/2.jpg", "nachos", "train"),
        ("food-101/images/nachos/3.jpg", "nachos", "test"),
        ("food-101/images/waffles/1.jpg", "waffles", "train"),
    ],
    "oxford-iiit-pet": [
        ("oxford-iiit-pet/images/Bombay_7.jpg", "Bombay", "train"),
        ("oxford-iiit-pet/images/Bombay_9.jpg", "Bombay", "test"),
        ("oxford-iiit-pet/images/great_dane_1.jpg", "Great Dane", "train"),
        ("oxford-iiit-pet/images/great_dane_3.jpg", "Great Dane", "test"),
    ],
    "stanford-cars": [
        ("stanford_cars/cars_test/00001.jpg", "Audi S4", "test"),
        ("stanford_cars/cars_test/00002.jpg", "Audi S4", "test"),
        ("stanford_cars/cars_train/00001.jpg", "AM General", "train"),
        ("stanford_cars/cars_train/00002.jpg", "Audi S4", "train"),
    ],
}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that lays a dataset out and returns its spec."""

    def make(name):
        MAKERS[name](tmp_path, monkeypatch)
        return f"torchvision:{name}@{tmp_path}"

    return make


def rows(source):
    listing = source.listing
    return [(image, listing.classes[label], split) for image, label, split in zip(listing.ids, listing.labels, listing.given, strict=True)]


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_images_labels_and_splits_are_those_of_torchvision(make, name):
    source = read_torchvision(make(name))
    assert rows(source) == EXPECTED[name]
    assert list(source.listing.classes) == sorted(source.listing.classes)
    assert decode_rgb(read_bytes(source, source.listing.ids[0])).size == ((32, 32) if name.startswith("cifar") else (9, 8))
    assert source.size(source.listing.ids[0]) > 0


def test_all_classes_of_torchvision_are_there_even_without_images(make):
    assert len(read_torchvision(make("flowers102")).listing.classes) == 102


def test_pixels_of_arrays_arrive_unchanged(make, tmp_path):
    source = pickle.loads(pickle.dumps(read_torchvision(make("cifar10"))))
    image, _ = torchvision.datasets.CIFAR10(str(tmp_path), train=True)[2]
    assert np.array_equal(decode_rgb(read_bytes(source, "train/000002")), image)


def test_arrays_need_not_be_square(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 3), dtype=np.uint8)
    source = ArraySource("x", tmp_path, Listing.of(["train/0"], ["a"]), {"train": pixels})
    assert np.array_equal(decode_rgb(read_bytes(source, "train/0")), pixels[0])


def test_the_name_may_be_in_capitals_and_the_folder_is_data_unless_given(make, tmp_path, monkeypatch):
    make("dtd")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "data").symlink_to(tmp_path)
    assert rows(read_torchvision("torchvision:DTD")) == EXPECTED["dtd"]


def test_a_dataset_that_is_not_there_is_not_downloaded_and_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read_torchvision("torchvision:fgvc-aircraft")
    assert str(error.value) == (
        "torchvision:fgvc-aircraft: there is no 'fgvc-aircraft-2013b' in the folder 'data', and holdfast downloads no datasets; type "
        "python -c \"from torchvision.datasets import FGVCAircraft; FGVCAircraft('data', download=True)\", or name the folder that holds "
        "it: torchvision:fgvc-aircraft@FOLDER."
    )
    assert list(tmp_path.iterdir()) == []


def test_cars_cannot_be_downloaded_by_anybody(tmp_path):
    with pytest.raises(DataError, match="torchvision cannot download it either: get it from its authors"):
        read_torchvision(f"torchvision:stanford-cars@{tmp_path}")


def test_a_changed_file_is_refused_before_it_is_unpickled(make, tmp_path):
    class Code:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'it-ran')!r}, 'w').close()",)

    spec = make("cifar10")
    (tmp_path / "cifar-10-batches-py" / "test_list").write_bytes(pickle.dumps(Code()))
    with pytest.raises(DataError, match="cifar-10-batches-py' are incomplete or damaged; unpack the archive again"):
        read_torchvision(spec)
    assert not (tmp_path / "it-ran").exists()


def test_a_missing_list_is_named(make, tmp_path):
    spec = make("dtd")
    (tmp_path / "dtd/dtd/labels/val1.txt").unlink()
    with pytest.raises(DataError, match=r"are incomplete or damaged \(FileNotFoundError: .*val1\.txt"):
        read_torchvision(spec)


def test_an_unknown_name_is_suggested_the_nearest():
    with pytest.raises(DataError, match=r"unknown dataset 'cifar_10'\. Did you mean 'cifar10'\?"):
        read_torchvision("torchvision:cifar_10")


def test_the_catalog_names_the_same_datasets():
    assert list(DATASETS["torchvision"].members) == list(TORCHVISION_SETS) == list(MAKERS)


def test_a_dataset_loads_like_any_other(make, load):
    data = load(make("dtd"))
    assert data.classes == ("dotted", "woven")
    assert {split: data.ids(split) for split in ("train", "val", "test")} == {
        "train": ["dtd/dtd/images/dotted/1.jpg", "dtd/dtd/images/woven/1.jpg"],
        "val": ["dtd/dtd/images/woven/2.jpg"],
        "test": ["dtd/dtd/images/dotted/3.jpg"],
    }
