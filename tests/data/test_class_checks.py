from __future__ import annotations

import pytest

from holdfast.errors import DataError


def test_a_single_class_is_refused(load, folder):
    with pytest.raises(DataError, match=r"there is only one class, 'cat', .* If they are one level deeper, give .*data/cat"):
        load(folder({"cat": 5}))


def test_an_empty_class_folder_is_refused_by_name(load, folder):
    with pytest.raises(DataError, match=r"class 'b' has no training image \(there is none in its folder\).*--allow-empty-classes"):
        load(folder({"train/a": 4, "train/b": 0, "train/c": 4, "test/a": 2}))


def test_a_label_of_test_that_train_lacks_is_refused(load, folder):
    with pytest.raises(DataError, match=r"class 'c' has no training image \(but test has some\)"):
        load(folder({"train/a": 4, "train/b": 4, "test/c": 2}))


def test_labels_of_val_and_test_are_named_with_their_number(load, folder):
    with pytest.raises(DataError, match=r"2 of 4 classes have no training image \(but val and test have some\): 'c', 'd'"):
        load(folder({"train/a": 4, "train/b": 4, "val/d": 1, "test/c": 2}))


def test_a_class_that_a_train_list_leaves_out_is_refused(load, folder, tmp_path):
    root = folder({"train/a": 4, "train/b": 4})
    (root / "few.txt").write_text("train/a/000.png\ntrain/a/001.png\n")
    with pytest.raises(DataError, match=r"class 'b' has no training image \(after --train-list"):
        load(root, train_list="few.txt")


def test_many_empty_classes_are_counted_and_the_first_ten_named(load, folder):
    with pytest.raises(DataError, match=r"12 of 14 classes have no training image .*'e00', .*'e09' and 2 more"):
        load(folder({"a": 3, "b": 3, **{f"e{number:02d}": 0 for number in range(12)}}))


def test_empty_classes_are_warned_of_when_allowed_and_stay_classes(load, folder, caplog):
    data = load(folder({"train/a": 4, "train/b": 0, "train/c": 4, "test/b": 2}), allow_empty_classes=True)
    assert data.classes == ("a", "b", "c")
    assert set(data.labels("train")) == {0, 2}
    assert data.labels("test").tolist() == [1, 1]
    assert "class 'b' has no training image (but test has some); going on" in caplog.text


def test_a_class_that_only_test_lacks_is_fine(load, folder):
    assert load(folder({"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 0})).size("test") == 2


def test_a_train_split_without_images_is_refused(load, folder):
    with pytest.raises(DataError, match="the train split has no image"):
        load(folder({"train/a": 0, "train/b": 0, "test/a": 2, "test/b": 1}))
