from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from holdfast.data.weights import example_weights
from holdfast.errors import DataError

LABELS = np.array([0, 0, 0, 2, 2, 4])


def weights(own=None, *, balanced=False, labels=LABELS):
    return example_weights(np.array(labels), None if own is None else np.array(own, dtype=float), balanced=balanced, spec="data")


def test_balanced_weights_are_inverse_to_the_size_of_the_class():
    assert weights(balanced=True).tolist() == [float(Fraction(6, 3 * n)) for n in (3, 3, 3, 2, 2, 1)]


def test_weights_of_the_dataset_have_mean_1():
    assert weights([1, 2, 3, 0, 0, 6]).tolist() == [0.5, 1, 1.5, 0, 0, 3]


def test_both_multiply_and_have_mean_1():
    own = [1, 2, 3, 0, 1, 6]
    products = [Fraction(w, n) for w, n in zip(own, (3, 3, 3, 2, 2, 1), strict=True)]
    expected = [float(product * 6 / sum(products)) for product in products]
    np.testing.assert_allclose(weights(own, balanced=True), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("own", "options"),
    [
        (None, {}),
        ([0.1] * 6, {}),
        (None, {"balanced": True, "labels": [0, 1, 0, 1]}),
        ([2, 3, 2, 3, 3], {"balanced": True, "labels": [0, 1, 0, 1, 1]}),  # what the sizes 2 and 3 take away
    ],
)
def test_equal_weights_are_none(own, options):
    assert weights(own, **options) is None


def test_weights_that_are_all_0_are_refused():
    with pytest.raises(DataError, match="data: the weight of every training example is 0, so there is nothing to learn"):
        weights([0] * 6, balanced=True)
