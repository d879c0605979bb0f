from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from holdfast.data import eval_view
from holdfast.data.views import centre_crop, prepare, short_side, view_of


@pytest.mark.parametrize(("size", "expected"), [(224, 256), (128, 146), (64, 73), (32, 37), (8, 9)])
def test_short_side_keeps_the_ratio_256_to_224(size, expected):
    assert short_side(size) == expected


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (200, 90), (10, 12), (37, 80), (37, 37)])
def test_eval_view_is_torchvisions_resize_and_centre_crop(noise, height, width):
    image = torch.from_numpy(noise(3, height, width)).permute(2, 0, 1)
    resized = reference.resize(image, [37], antialias=True)
    expected = reference.center_crop(resized, [32, 32])
    difference = (eval_view(image, 32).int() - expected.int()).abs()
    assert difference.max() <= 1  # Pillow and torch round the same weights differently in the last place


def test_resized_images_keep_their_shape_and_their_whole_width(noise):
    assert prepare(Image.fromarray(noise(0, 40, 90)), "resized", 32).shape == (3, 37, 83)
    assert prepare(Image.fromarray(noise(0, 90, 40)), "resized", 32).shape == (3, 83, 37)


@pytest.mark.parametrize("kind", ["view", "resized", "original"])
def test_the_eval_view_is_the_same_however_far_an_image_was_prepared(noise, kind):
    image = Image.fromarray(noise(5, 50, 70))
    expected = eval_view(torch.from_numpy(noise(5, 50, 70)).permute(2, 0, 1), 32).numpy()
    assert np.array_equal(view_of(prepare(image, kind, 32), kind, 32), expected)


def test_centre_crop_takes_the_middle():
    pixels = np.arange(3 * 6 * 9, dtype=np.uint8).reshape(3, 6, 9)
    assert np.array_equal(centre_crop(pixels, 4), pixels[:, 1:5, 2:6])  # 2.5 rounds to 2, as in torchvision
