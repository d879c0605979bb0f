from __future__ import annotations

import pytest

from holdfast.catalog import DATASETS
from holdfast.data.opening import DEMOS, open_source
from holdfast.errors import DataError


@pytest.mark.parametrize("spec", ["hf:cifar10", "torchvision:CIFAR10", "wds:a-{00..10}.tar", "labels.csv", "data/LABELS.JSONL"])
def test_kinds_that_are_not_built_say_what_is(spec):
    with pytest.raises(DataError, match=r"cannot be read in this version; give a folder of images .* or demo:digits"):
        open_source(spec)


def test_unknown_demo_is_suggested_the_nearest():
    with pytest.raises(DataError, match=r"unknown demo dataset 'digit'\. Did you mean 'digits'\?"):
        open_source("demo:digit")


def test_demos_are_those_of_the_catalog():
    assert set(DEMOS) == set(DATASETS["demo"].members)
