from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from holdfast.data.decode import decode_rgb
from holdfast.data.digits import load_digits
from holdfast.data.source import read_bytes


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_ids_labels_and_classes(digits):
    listing = digits.listing
    assert (len(listing.ids), listing.ids[0], listing.ids[-1]) == (1797, "digits/0000", "digits/1796")
    assert list(listing.ids) == sorted(listing.ids)
    assert listing.classes == tuple("0123456789")
    assert listing.given is None
    assert np.array_equal(listing.labels, sklearn_digits().target)


@pytest.mark.parametrize("row", [0, 17, 1796])
def test_values_from_0_to_16_become_0_to_255(digits, row):
    image = decode_rgb(read_bytes(digits, f"digits/{row:04d}"))
    assert image.size == (8, 8)
    expected = np.round(sklearn_digits().images[row] * 255 / 16 + 1e-9)
    assert np.array_equal(np.asarray(image)[..., 1], expected)


def test_sizes_are_those_of_the_files(digits):
    assert digits.size("digits/0003") == len(read_bytes(digits, "digits/0003"))
