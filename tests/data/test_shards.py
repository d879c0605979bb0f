"""Datasets in tar shards: what is listed, read, recorded, refused."""

from __future__ import annotations

import hashlib
import logging
import pickle

import fsspec
import numpy as np
import pytest
import torch
from tests.data.small_shards import png, write_shard, write_tar

from holdfast.data import render, scan
from holdfast.data.opening import open_source
from holdfast.data.shards import read_shards
from holdfast.data.source import AllTrained, is_remote, read_bytes
from holdfast.errors import DataError

CLASSES = ("ant", "bee", "fly")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))


def keys(count, first=0):
    return {f"{first + number:03d}": CLASSES[number % 3] for number in range(count)}


@pytest.fixture
def root(tmp_path):
    """Two shards of twelve to train on, one of six each to validate and test."""
    for name, count in (("train-0", 12), ("train-1", 12), ("val-0", 6), ("test-0", 6)):
        write_shard(tmp_path / f"d/{name}.tar", keys(count))
    return tmp_path / "d"


@pytest.fixture
def big(monkeypatch):
    """Everything counts as more than 10 GB."""
    monkeypatch.setattr(scan, "HASH_LIMIT", 0)


def test_ids_are_shard_and_key_and_labels_those_of_the_shards(root):
    source = open_source(f"wds:{root}")
    listing = source.listing
    assert listing.ids[:2] == ("test-0/000", "test-0/001")
    assert listing.ids == tuple(sorted(listing.ids))
    assert len(listing.ids) == 36
    assert listing.classes == CLASSES
    assert [listing.classes[label] for label in listing.labels[:4]] == ["ant", "bee", "fly", "ant"]
    assert listing.given[:7] == ("test",) * 6 + ("train",)
    assert (listing.unit, listing.places, source.root) == ("image", None, root)


def test_each_id_leads_to_its_own_bytes(tmp_path):
    images = {f"{name}/{number:02d}": png(10 * place + number) for place, name in enumerate(("b", "a")) for number in range(5)}
    for name in ("b", "a"):
        members = {}
        for image in sorted((image for image in images if image.startswith(name)), reverse=True):
            members |= {f"{image[2:]}.cls": "x", f"{image[2:]}.png": images[image]}
        write_tar(tmp_path / f"{name}.tar", members)
    source = read_shards(f"wds:{tmp_path}/{{b,a}}.tar")
    for reader in (source, pickle.loads(pickle.dumps(source))):
        assert {image: read_bytes(reader, image) for image in source.listing.ids} == images
        assert [reader.size(image) for image in source.listing.ids] == [len(images[image]) for image in source.listing.ids]


def test_the_fingerprint_is_over_ids_labels_splits_and_bytes_or_sizes(root, load, monkeypatch):
    def expected(data, digest):
        source = read_shards(f"wds:{root}")
        lines = [
            f"{image}\t{data.classes[label]}\t{split}\t{digest(read_bytes(source, image))}\n"
            for split in ("train", "val", "test")
            for image, label in zip(data.ids(split), data.labels(split), strict=True)
        ]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    data = load(f"wds:{root}")
    assert data.fingerprint == expected(data, lambda content: hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(scan, "HASH_LIMIT", 0)
    data = load(f"wds:{root}")
    assert data.fingerprint == expected(data, lambda content: str(len(content)))
    assert data.splits_record()["fingerprint_over"] == "size"


def rows(data, **options):
    return torch.cat([batch.index for batch in data.train_batches(epoch=1, seed=3, batch_size=4, **options)]).tolist()


def pixels(data, **options):
    return torch.cat([batch.inputs for batch in data.train_batches(epoch=1, seed=3, batch_size=4, **options)])


@pytest.mark.parametrize("options", [{"cache": "memory"}, {"cache": "off", "workers": 0}, {"cache": "off", "workers": 2}])
def test_pixels_are_those_of_the_same_images_in_a_folder(root, load, tmp_path, options):
    shards = load(f"wds:{root}", **options)
    source = read_shards(f"wds:{root}")
    for image in source.listing.ids:
        label = source.listing.classes[source.listing.labels[source.listing.ids.index(image)]]
        path = tmp_path / "table" / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_bytes(source, image))
        with open(tmp_path / "table/t.csv", "a") as file:
            if not file.tell():
                file.write("id,path,label,split\n")
            file.write(f"{image},{image}.png,{label},{image.split('-')[0]}\n")
    table = load(tmp_path / "table/t.csv", cache="memory")
    assert shards.fingerprint == table.fingerprint
    assert rows(shards) == rows(table)
    assert torch.equal(pixels(shards), pixels(table))
    assert torch.equal(*(torch.cat([batch.inputs for batch in data.batches("test")]) for data in (shards, table)))


def test_data_at_a_url_give_the_run_that_local_data_give(root, load):
    system = fsspec.filesystem("memory")
    for path in root.glob("*.tar"):
        system.pipe(f"/mem/{path.name}", path.read_bytes())
    local, remote = load(f"wds:{root}"), load("wds:memory://mem/{train,val,test}-*.tar", cache="off", workers=0)
    assert remote.fingerprint == local.fingerprint
    assert torch.equal(pixels(remote), pixels(local))
    source = read_shards("wds:memory://mem")
    assert source.listing.ids == read_shards(f"wds:{root}").listing.ids
    assert is_remote(source)
    assert is_remote(AllTrained(source))
    assert source.root is None


def test_of_many_images_at_a_url_nothing_is_read_before_training(root, load, monkeypatch, big):
    system = fsspec.filesystem("memory")
    for path in root.glob("*.tar"):
        system.pipe(f"/many/{path.name}", path.read_bytes())
    monkeypatch.setattr(scan, "DECODE_LIMIT", 10)
    opened = []
    monkeypatch.setattr(scan, "check_header", lambda file: opened.append(file))
    load(f"wds:{root}")
    assert len(opened) == 36
    data = load("wds:memory://many", workers=0)
    assert len(opened) == 36
    assert len(rows(data)) == 24


def test_images_at_a_url_are_asked_for_at_the_same_time(root, load, monkeypatch):
    for path in root.glob("*.tar"):
        fsspec.filesystem("memory").pipe(f"/pool/{path.name}", path.read_bytes())
    pools = []
    real = render.ThreadPoolExecutor
    monkeypatch.setattr(render, "ThreadPoolExecutor", lambda count: pools.append(count) or real(count))
    rows(load(f"wds:{root}", cache="off", workers=0))
    assert pools == []
    rows(load("wds:memory://pool", cache="off", workers=0))
    assert pools == [16] * 6


# ---------------------------------------------------------------------------------------------------------------------- order


def test_large_data_are_shown_shard_after_shard_whatever_the_rank_or_the_step(root, load, big, monkeypatch):
    from holdfast.data import order

    monkeypatch.setattr(order, "WINDOW", 1)
    monkeypatch.setattr(order, "_SHARDS_AT_ONCE", 0)
    data = load(f"wds:{root}")
    shown = rows(data)
    shard_of = dict(zip(data.index("train").tolist(), [image.split("/")[0] for image in data.ids("train")], strict=True))
    assert len({shard_of[row] for row in shown[:12]}) == len({shard_of[row] for row in shown[12:]}) == 1
    assert sorted(shown) == data.index("train").tolist()
    assert rows(load(f"wds:{root}")) == shown
    halves = [list(data.train_batches(epoch=1, seed=3, batch_size=4, rank=rank, size=2)) for rank in range(2)]
    assert [row for pair in zip(*halves, strict=True) for batch in pair for row in batch.index.tolist()] == shown
    assert rows(data, start_step=4) == shown[16:]


def test_small_data_are_shown_in_another_order(root, load, big, monkeypatch):
    with_places = rows(load(f"wds:{root}"))
    monkeypatch.setattr(scan, "HASH_LIMIT", 10**10)
    without = rows(load(f"wds:{root}"))
    assert sorted(without) == sorted(with_places)
    assert without != with_places


def test_places_go_through_everything_that_chooses_examples(root, load, big, tmp_path):
    source = read_shards(f"wds:{root}")
    listing = source.listing
    assert np.array_equal(listing.places, np.stack([source.shards, source.offsets], axis=1))
    half = np.arange(0, 36, 2)
    assert np.array_equal(listing.take(half).places, listing.places[half])
    trained = AllTrained(source).listing
    assert np.array_equal(trained.places, listing.places[[split == "train" for split in listing.given]])
    data = load(f"wds:{root}", train_fraction=0.5)
    assert sorted(rows(data)) == data.index("train").tolist()
    assert np.array_equal(data._places, listing.places[[listing.ids.index(image) for image in data._ids]])


def test_shards_of_few_classes_are_warned_of(tmp_path, big, caplog):
    for number in range(9):
        write_shard(tmp_path / f"sorted/{number}.tar", {f"{key:03d}": f"class {number}" for key in range(9)})
        write_shard(tmp_path / f"mixed/{number}.tar", {f"{key:03d}": f"class {(key * 2 + number) % 9}" for key in range(9)})
    with caplog.at_level(logging.WARNING, logger="holdfast"):
        read_shards(f"wds:{tmp_path}/mixed")
        assert not caplog.records
        read_shards(f"wds:{tmp_path}/sorted")
    assert "a shard holds 1 of the 9 classes on average" in caplog.text


# -------------------------------------------------------------------------------------------------------------------- refused


def test_names_of_classes_beside_the_shards(root):
    (root / "classes.txt").write_text("\n".join(reversed(CLASSES)) + "\nwasp")
    for name in ("train-0", "train-1", "val-0", "test-0"):
        write_shard(root / f"{name}.tar", {f"{number:03d}": str(number % 3) for number in range(6)})
    listing = read_shards(f"wds:{root}").listing
    assert listing.classes == (*CLASSES, "wasp")
    assert [listing.classes[label] for label in listing.labels[:3]] == ["fly", "bee", "ant"]
    write_shard(root / "val-0.tar", {"0": "4"})
    with pytest.raises(DataError, match=r"the label '4' in the shard 'val-0' is no class of .*classes.txt: 'fly', 'bee', 'ant' and 1 more"):
        read_shards(f"wds:{root}")


def test_a_class_that_only_the_list_names_is_an_error_as_in_every_dataset(root, load):
    (root / "classes.txt").write_text("\n".join((*CLASSES, "wasp")))
    with pytest.raises(DataError, match="'wasp'"):
        load(f"wds:{root}")
    assert load(f"wds:{root}", allow_empty_classes=True).classes == (*CLASSES, "wasp")


def test_a_corrupt_image_is_named_by_its_id(root, load):
    write_tar(root / "val-0.tar", {"5.jpg": b"spoiled", "5.cls": "ant"})
    with pytest.raises(DataError, match=r"1 of 31 images cannot be read: val-0/5 \(not an image of a known format, or damaged\)"):
        load(f"wds:{root}")


@pytest.mark.parametrize(
    ("spoil", "pattern", "sentence"),
    [
        (
            lambda root: None,
            "{train,val}-{0..2}.tar",
            "3 of 6 shards ('…/train-2.tar', '…/val-1.tar', '…/val-2.tar') cannot be found; check",
        ),
        (lambda root: None, "train-9.tar", "the shard '…/train-9.tar' cannot be found; check the pattern."),
        (
            lambda root: (root / "val-0.tar").write_bytes(b"x" * 4000),
            "*.tar",
            "the shard '…/val-0.tar' cannot be used: it is no tar archive,",
        ),
        (lambda root: write_tar(root / "val-0.tar", {}), "*.tar", "the shard '…/val-0.tar' cannot be used: it holds no example;"),
        (lambda root: write_tar(root / "val-0.tar", {"0.png": b""}), "*.tar", "the shard '…/val-0.tar' cannot be used: '0' has no label;"),
        (lambda root: (root / "val-1.tar").mkdir(), "*.tar", "the shard '…/val-1.tar' cannot be read (it is a folder)."),
        (
            lambda root: write_tar(root / "val-0.tar", {"0.txt": "a", "0.cls": "ant"}),
            "*.tar",
            "'train-1' holds images and 'val-0' texts; give one of the two kinds.",
        ),
    ],
)
def test_shards_that_cannot_be_used_are_named(root, spoil, pattern, sentence):
    spoil(root)
    with pytest.raises(DataError) as error:
        read_shards(f"wds:{root}/{pattern}")
    text = str(error.value).replace(f"wds:{root}/{pattern}", "wds:…").replace(str(root), "…")
    assert text.startswith(f"wds:…: {sentence}")


def test_a_shard_that_shrinks_during_training_stops_it_by_name(root, load):
    data = load(f"wds:{root}", cache="off", workers=0)
    for path in root.glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        DataError, match=r"the image train-\d/\d+ cannot be read \(the file it is in has become shorter since it was listed\)"
    ):
        rows(data)


def test_texts_in_shards(tmp_path):
    members = {}
    for number in range(4):
        members |= {f"{number}.txt": f"text {number}", f"{number}.cls": "ab"[number % 2]}
    write_tar(tmp_path / "t.tar", members)
    source = read_shards(f"wds:{tmp_path}/t.tar")
    assert source.listing.unit == "text"
    assert [read_bytes(source, text).decode() for text in source.listing.ids] == [f"text {number}" for number in range(4)]
