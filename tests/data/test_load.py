"""Reading a dataset: what is refused, what is dropped, what is recorded."""

from __future__ import annotations

import hashlib
import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from holdfast.data import scan
from holdfast.data.digits import load_digits
from holdfast.errors import DataError


def spoil(root, *names):
    for name in names:
        (root / name).write_bytes(b"spoiled")


def fingerprint(root, data, digest):
    """The fingerprint by its definition, from the ids and labels that the data report."""
    lines = []
    for split in ("train", "val", "test"):
        for image, label in zip(data.ids(split), data.labels(split), strict=True):
            lines.append(f"{image}\t{data.classes[label]}\t{split}\t{digest((root / image).read_bytes())}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def test_fingerprint_is_over_ids_labels_splits_and_bytes(load, folder):
    root = folder({"train/a": 6, "train/ü": 6, "test/a": 2, "test/ü": 2})
    data = load(root)
    assert data.fingerprint == fingerprint(root, data, lambda content: hashlib.sha256(content).hexdigest())
    assert data.splits_record()["fingerprint_over"] == "bytes"


def test_fingerprint_changes_with_one_byte_and_with_the_split_but_not_with_the_folder(load, folder, tmp_path):
    root = folder({"a": 10, "b": 10})
    first = load(root)
    assert load(root, data_seed=1).fingerprint != first.fingerprint
    moved = root.rename(tmp_path / "moved")
    assert load(moved).fingerprint == first.fingerprint
    path = moved / first.ids("train")[0]
    path.write_bytes(path.read_bytes() + b"\0")
    assert load(moved).fingerprint != first.fingerprint


def test_large_datasets_are_fingerprinted_by_size(load, folder, monkeypatch):
    root = folder({"a": 5, "b": 5})
    monkeypatch.setattr(scan, "HASH_LIMIT", 1000)
    data = load(root)
    assert data.fingerprint == fingerprint(root, data, lambda content: str(len(content)))
    assert data.splits_record()["fingerprint_over"] == "size"


def test_ids_are_sorted_paths_and_index_is_their_rank_over_all_splits(load, folder):
    data = load(folder({"train/b": 5, "train/a": 5, "test/a": 2, "test/b": 2, "val/a": 1}))
    everything = sorted(image for split in ("train", "val", "test") for image in data.ids(split))
    for split in ("train", "val", "test"):
        index = np.concatenate([batch.index.numpy() for batch in data.batches(split)])
        assert data.ids(split) == sorted(data.ids(split))
        assert [everything[number] for number in index] == data.ids(split)
        assert [image.split("/")[1] for image in data.ids(split)] == [data.classes[label] for label in data.labels(split)]


def test_index_counts_only_what_the_run_uses(load, folder):
    root = folder({"train/a": 9, "train/b": 9, "test/a": 1, "test/b": 1})
    data = load(root, shots=2, val_fraction=0.0)
    assert sorted(int(i) for split in ("train", "test") for batch in data.batches(split) for i in batch.index) == list(range(6))


def test_the_record_says_everything_that_splits_json_needs(load, folder):
    root = folder({"train/a": 10, "train/b": 10, "test/a": 2, "test/b": 2})
    spoil(root, "train/a/003.png")
    data = load(root, skip_bad=True, data_seed=5)
    record = json.loads(json.dumps(data.splits_record()))
    assert record == {
        "schema": 1,
        "classes": ["a", "b"],
        "fingerprint": data.fingerprint,
        "train": data.ids("train"),
        "val": data.ids("val"),
        "test": data.ids("test"),
        "fingerprint_over": "bytes",
        "val_from": "cut from train",
        "val_labels": "as given",
        "dropped": [{"id": "train/a/003.png", "reason": "not an image of a known format, or damaged"}],
        "rule": "train, test given; val is 0.1 of train (class by class, largest remainder, data seed 5)",
        "data_seed": 5,
    }


@pytest.mark.parametrize(
    ("truth_of_val", "option", "recorded"),
    [
        ("ab", "as-given", "noisy"),
        ("bb", "as-given", "clean"),
        ("", "as-given", "as given"),
        ("bb", "noisy", "noisy"),
        ("", "clean", "clean"),
    ],
)
def test_the_truth_of_a_table_is_for_reports_and_says_whether_val_is_clean(load, folder, truth_of_val, option, recorded):
    root = folder({"x": 6})
    truth = ["a", "b", "", "elsewhere", *(truth_of_val or ["", ""])]
    rows = zip(["train"] * 4 + ["val"] * 2, "abab" + "bb", truth, strict=True)
    lines = [f"x/{number:03d}.png,{label},{split},{true}" for number, (split, label, true) in enumerate(rows)]
    (root / "t.csv").write_text("\n".join(["path,label,split,true_label", *lines]) + "\n")
    data = load(root / "t.csv", val_labels=option)
    assert data.splits_record()["val_labels"] == recorded
    assert data.true_labels("train").tolist() == [0, 1, -1, -1]
    assert data.labels("train").tolist() == [0, 1, 0, 1]
    (root / "u.csv").write_text("\n".join(["path,label,split", *(line.rpartition(",")[0] for line in lines)]) + "\n")
    without = load(root / "u.csv")
    assert without.true_labels("train") is None
    assert without.fingerprint == data.fingerprint


def test_absent_splits_are_null_in_the_record_and_empty_otherwise(load, folder):
    data = load(folder({"train/a": 3, "train/b": 3}), val_fraction=0.0)
    record = data.splits_record()
    assert (record["val"], record["test"], record["val_from"]) == (None, None, None)
    assert (data.size("val"), data.has("val"), data.ids("test"), data.labels("test").tolist()) == (0, False, [], [])
    assert list(data.batches("val")) == []


def test_an_unknown_split_is_refused(load, folder):
    data = load(folder({"a": 5, "b": 5}))
    with pytest.raises(DataError, match=r"unknown split 'tset'\. Did you mean 'test'\?"):
        data.batches("tset")


def test_all_unreadable_images_are_named_in_one_error(load, folder):
    root = folder({"train/a": 8, "train/b": 8, "test/a": 3, "test/b": 3})
    (root / "train/a/001.png").write_bytes(b"")
    (root / "train/b/007.png").write_bytes((root / "train/b/007.png").read_bytes()[:300])
    spoil(root, "test/a/002.png")
    (root / "train/a/gone.png").symlink_to(root / "nowhere.png")
    values = np.full((20, 20), 0.5, dtype=np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(root / "train/b/nan.tif")
    with pytest.raises(DataError) as error:
        load(root)
    message = str(error.value)
    assert "5 of 24 images cannot be read: " in message
    for part in [
        "test/a/002.png (not an image of a known format, or damaged)",
        "train/a/001.png (the file is empty)",
        "train/a/gone.png (no such file or directory)",
        "train/b/007.png (image file is truncated",
        "train/b/nan.tif (it holds NaN)",
        "type --skip-bad to go on without them",
    ]:
        assert part in message
    assert "\n" not in message


def test_of_many_unreadable_images_the_first_ten_are_named(load, folder):
    root = folder({"a": 20, "b": 5})
    spoil(root, *(f"a/{number:03d}.png" for number in range(13)))
    with pytest.raises(DataError, match=r"13 of 25 images cannot be read: a/000\.png .*a/009\.png \([^)]*\) and 3 more\. ") as error:
        load(root)
    assert "a/010.png" not in str(error.value)


def test_images_without_read_permission_are_unreadable(load, folder, monkeypatch):
    import builtins

    real = builtins.open

    def guarded(path, *arguments, **options):
        if os.fspath(path).endswith("a/001.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    root = folder({"a": 3, "b": 3})
    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(DataError, match=r"1 of 6 images cannot be read: a/001\.png \(no read permission\)"):
        load(root)


def test_skipped_images_are_listed_and_the_rest_is_as_if_they_were_deleted(load, folder, caplog):
    root = folder({"a": 20, "b": 20})
    bad = ["a/004.png", "b/000.png", "b/019.png"]
    spoil(root, *bad)
    skipped = load(root, skip_bad=True)
    assert [entry["id"] for entry in skipped.splits_record()["dropped"]] == bad
    assert all(f"dropped {image} (" in caplog.text for image in bad)
    for image in bad:
        (root / image).unlink()
    deleted = load(root)
    assert (skipped.fingerprint, skipped.ids("train")) == (deleted.fingerprint, deleted.ids("train"))


def test_a_class_of_which_all_images_were_skipped_is_refused(load, folder):
    root = folder({"a": 4, "b": 2})
    spoil(root, "b/000.png", "b/001.png")
    with pytest.raises(DataError, match=r"class 'b' has no training image \(after --train-list, --skip-bad"):
        load(root, skip_bad=True)


def test_bad_images_outside_the_train_list_do_not_matter(load, folder):
    root = folder({"train/a": 4, "train/b": 4, "test/a": 1, "test/b": 1})
    spoil(root, "train/a/000.png")
    (root / "list.txt").write_text("train/a/001.png\ntrain/a/002.png\ntrain/b/000.png\n")
    assert load(root, train_list="list.txt", val_fraction=0.0).size("train") == 3


def test_shots_replace_a_skipped_image_by_another_of_its_class(load, folder):
    root = folder({"train/a": 6, "train/b": 6})
    chosen = load(root, shots=3, val_fraction=0.0)
    spoil(root, *chosen.ids("train")[:2])
    data = load(root, shots=3, val_fraction=0.0, skip_bad=True)
    assert np.bincount(data.labels("train")).tolist() == [3, 3]
    assert set(chosen.ids("train")[2:]) < set(data.ids("train"))


def test_many_images_have_only_their_headers_checked(load, folder, monkeypatch):
    monkeypatch.setattr(scan, "DECODE_LIMIT", 8)
    root = folder({"train/a": 6, "train/b": 6})
    whole = root / "train/b/003.png"
    whole.write_bytes(whole.read_bytes()[:400])
    data = load(root, val_fraction=0.0, workers=0)
    with pytest.raises(DataError, match=r"data: the image train/b/003\.png cannot be read \(image file is truncated"):
        list(data.batches("train"))
    spoil(root, "train/a/002.png")
    with pytest.raises(DataError, match=r"1 of 12 images cannot be read: train/a/002\.png"):
        load(root, val_fraction=0.0)


@pytest.mark.parametrize("hash_limit", [0, 10**9])
def test_header_checks_work_with_and_without_hashing(load, folder, monkeypatch, hash_limit):
    monkeypatch.setattr(scan, "DECODE_LIMIT", 0)
    monkeypatch.setattr(scan, "HASH_LIMIT", hash_limit)
    root = folder({"a": 5, "b": 5})
    assert load(root, workers=0).splits_record()["fingerprint_over"] == ("bytes" if hash_limit else "size")
    spoil(root, "a/000.png")
    with pytest.raises(DataError, match=r"a/000\.png \(not an image"):
        load(root)


def test_every_file_is_read_once(load, folder, monkeypatch):
    from holdfast.data.folder import FolderSource

    opened = []
    real = FolderSource.open
    monkeypatch.setattr(FolderSource, "open", lambda self, image: opened.append(image) or real(self, image))
    data = load(folder({"a": 10, "b": 10}), cache="memory")
    for epoch in range(2):
        list(data.train_batches(epoch=epoch, seed=0, batch_size=4))
        list(data.batches("val"))
    assert sorted(opened) == sorted(set(opened))
    assert len(opened) == 20


def test_splitting_again_without_bad_images_reads_nothing_again(load, folder, monkeypatch):
    from holdfast.data.folder import FolderSource

    root = folder({"a": 12, "b": 12})
    spoil(root, "a/004.png", "a/005.png", "b/000.png")
    opened = []
    real = FolderSource.open
    monkeypatch.setattr(FolderSource, "open", lambda self, image: opened.append(image) or real(self, image))
    load(root, skip_bad=True, cache="off", workers=0)
    assert sorted(opened) == sorted(set(opened))
    assert len(opened) == 24


def test_digits_are_cut_70_15_15(load):
    data = load("demo:digits")
    assert [data.size(split) for split in ("train", "val", "test")] == [1257, 270, 270]
    assert data.classes == tuple("0123456789")
    labels = load_digits().listing.labels
    assert all(labels[int(image[-4:])] == label for image, label in zip(data.ids("val"), data.labels("val"), strict=True))


def test_digits_are_enlarged_to_the_input_of_the_network(load):
    batch = next(load("demo:digits", shots=2).batches("test"))
    assert batch.inputs.shape == (64, 3, 16, 16)


def test_the_rule_is_logged(load, folder, caplog):
    with caplog.at_level(logging.INFO, "holdfast"):
        load(folder({"a": 10, "b": 10}))
    assert "nothing given; train/val/test cut 70/15/15" in caplog.text


def test_a_train_list_is_found_in_the_data_folder(load, folder):
    root = folder({"train/a": 4, "train/b": 4, "test/a": 1, "test/b": 1})
    (root / "few.txt").write_text("train/a/003.png\ntrain/b/001.png\ntrain/b/002.png\n")
    data = load(root, train_list="few.txt", val_fraction=0.0)
    assert data.ids("train") == ["train/a/003.png", "train/b/001.png", "train/b/002.png"]
    assert "restricted by --train-list" in data.splits_record()["rule"]


def table(root, rows, head="path,label,weight,site"):
    path = root / "table.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_weights_of_a_table_reach_the_training_batches_with_mean_1(load, folder):
    root = folder({"a": 20, "b": 20})
    rows = [f"{name}/{number:03d}.png,{name},{number + 1},s{number % 4}" for name in "ab" for number in range(20)]
    data = load(table(root, rows), val_fraction=0.0, train_fraction=0.5)
    everything = sorted(image for split in ("train", "test") for image in data.ids(split))
    (batch,) = data.train_batches(epoch=0, seed=0, batch_size=data.size("train"))
    weights = dict(zip([everything[index] for index in batch.index], batch.weights.tolist(), strict=True))
    own = {image: int(image[-7:-4]) + 1 for image in data.ids("train")}
    mean = sum(own.values()) / len(own)
    assert weights == pytest.approx({image: weight / mean for image, weight in own.items()}, rel=1e-6)


def test_other_weights_are_other_data(load, folder):
    root = folder({"a": 10, "b": 10})
    rows = [f"{name}/{number:03d}.png,{name},{number + 1},s" for name in "ab" for number in range(10)]
    first = load(table(root, rows))
    assert load(table(root, rows)).fingerprint == first.fingerprint
    assert load(table(root, [*rows[:-1], rows[-1].replace(",10,", ",11,")])).fingerprint != first.fingerprint
    assert first.fingerprint != load(table(root, [row.rsplit(",", 2)[0] for row in rows], "path,label")).fingerprint


def test_a_train_split_whose_weights_are_all_0_is_refused(load, folder):
    root = folder({"a": 6, "b": 6})
    rows = [f"{name}/{n:03d}.png,{name},{int(n > 3)},{'test' if n > 3 else 'train'}" for name in "ab" for n in range(6)]
    with pytest.raises(DataError, match=r"table\.csv: the weight of every training example is 0, so there is nothing to learn"):
        load(table(root, rows, "path,label,weight,split"))


def test_groups_of_a_table_stay_together(load, folder):
    root = folder({"a": 20, "b": 20})
    rows = [f"{name}/{number:03d}.png,{name},1,s{number // 2}" for name in "ab" for number in range(20)]
    data = load(table(root, rows), group_by="site")
    sites = [{int(image[-7:-4]) // 2 for image in data.ids(split)} for split in ("train", "val", "test")]
    assert sum(map(len, sites)) == len(set.union(*sites)) == 10
    assert all(sites)


def test_copies_across_splits_are_one_warning(load, folder, caplog):
    root = folder({"train/a": 6, "train/b": 6, "test/a": 3, "test/b": 3})
    for copy, source in {"test/b/002": "train/a/001", "test/b/000": "train/b/001", "train/a/003": "train/a/002"}.items():
        (root / f"{copy}.png").write_bytes((root / f"{source}.png").read_bytes())
    load(root, val_fraction=0.0)
    (warning,) = [record.message for record in caplog.records if "byte for byte" in record.message]
    assert warning.startswith(
        f"{root}: 2 images of test are copies of an image in another split, byte for byte, 1 of them under another label: "
        "'test/b/000.png' = 'train/b/001.png', 'test/b/002.png' = 'train/a/001.png'."
    )


def test_sizes_are_not_taken_for_copies(load, folder, monkeypatch, caplog):
    root = folder({"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3})
    for image in root.rglob("*.png"):
        Image.new("L", (20, 20), int(image.stem) + len(str(image.parent))).save(image)
    monkeypatch.setattr(scan, "HASH_LIMIT", 0)
    load(root, val_fraction=0.0)
    assert "byte for byte" not in caplog.text


def test_making_up_for_small_classes_twice_is_a_warning(load, folder, caplog):
    root = folder({"train/a": 3, "train/b": 6})
    for options in ({"sampling": "balanced"}, {"class_weights": "balanced"}):
        load(root, val_fraction=0.0, **options)
        assert "count them twice" not in caplog.text
    load(root, val_fraction=0.0, sampling="balanced", class_weights="balanced")
    assert "--class-weights balanced and --sampling balanced each make up for small classes; together they count them twice" in caplog.text


def test_weights_of_training_examples_count_what_balanced_sampling_shows_more_often(load, folder):
    root = folder({"train/ant": 4, "train/bee": 2})
    assert load(root, val_fraction=0.0).train_weights() is None
    for options in ({"sampling": "balanced"}, {"class_weights": "balanced"}):
        weights = load(root, val_fraction=0.0, **options).train_weights()
        assert weights.tolist() == [0.75] * 4 + [1.5] * 2
