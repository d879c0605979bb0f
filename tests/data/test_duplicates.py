from __future__ import annotations

from holdfast.data.duplicates import duplicate_note

IMAGES = [
    ("a/1", "a", "train"),
    ("a/2", "a", "train"),
    ("b/1", "b", "test"),
    ("b/2", "b", "val"),
    ("b/3", "b", "test"),
    ("c/1", "c", "test"),
]


def note(*digests):
    return duplicate_note(IMAGES, dict(zip([image for image, _, _ in IMAGES], digests, strict=True)))


def test_copies_within_a_split_are_no_matter():
    assert note(*"112345") is None
    assert note(*"123435") is None
    assert note(*"123433") is None


def test_a_copy_in_test_is_named_with_its_original():
    said = note(*"123415")
    assert said.startswith("1 image of test is a copy of an image in another split, byte for byte")
    assert ", 1 of them under another label: 'b/3' = 'a/1'. " in said


def test_copies_are_counted_over_val_and_test_and_the_first_are_shown():
    said = note(*"112112")
    assert said.startswith("2 images of val and test are copies of an image in another split, byte for byte, 2 of them under another label")


def test_a_copy_of_a_val_image_in_test_is_one_too():
    assert note(*"123354").startswith("1 image of test is a copy of an image in another split, byte for byte: 'b/1' = 'b/2'.")


def test_the_same_label_is_not_mentioned():
    images = [("x", "a", "train"), ("y", "a", "val"), ("z", "a", "test")]
    assert "label" not in duplicate_note(images, {"x": "1", "y": "1", "z": "1"})
    assert "'y' = 'x', 'z' = 'x'." in duplicate_note(images, {"x": "1", "y": "1", "z": "1"})


def test_more_than_three_are_only_counted():
    images = [("t", "a", "train"), *((f"v{n}", "a", "val") for n in range(5))]
    said = duplicate_note(images, {image: "1" for image, _, _ in images})
    assert "'v0' = 't', 'v1' = 't', 'v2' = 't' and 2 more. Results on them" in said
