from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from holdfast.data.augment import Augmentation, crop_box, resized_crop_box
from holdfast.data.keyed import example_keys, uniforms
from holdfast.data.views import prepare

KEYS = example_keys(str(number) for number in range(3000))


def applied(augmentation, pixels, draws):
    out = np.zeros((3, augmentation.size, augmentation.size), dtype=np.uint8)
    augmentation.apply(pixels, draws, out)
    return out


def test_crop_cuts_a_square_of_the_resized_image_where_the_draws_say(noise):
    pixels = prepare(Image.fromarray(noise(0, 40, 90)), "resized", 32)  # (3, 37, 83)
    plain = Augmentation("crop", True, 32)
    assert np.array_equal(applied(plain, pixels, [0.0, 0.0, 0.9]), pixels[:, :32, :32])
    assert np.array_equal(applied(plain, pixels, [0.999, 0.999, 0.9]), pixels[:, 5:, 51:])
    assert np.array_equal(applied(plain, pixels, [0.5, 0.5, 0.1]), pixels[:, 3:35, 26:58][..., ::-1])


def test_crop_positions_are_uniform():
    boxes = np.array([crop_box(37, 40, 32, draws) for draws in uniforms("t", 0, 0, KEYS, 2)])
    assert stats.chisquare(np.bincount(boxes[:, 0], minlength=6)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(boxes[:, 1], minlength=9)).pvalue > 1e-3
    assert len(np.bincount(boxes[:, 0])) == 6
    assert len(np.bincount(boxes[:, 1])) == 9


def test_flip_mirrors_half_of_the_images_and_none_when_switched_off(noise):
    pixels = prepare(Image.fromarray(noise(0, 37, 37)), "resized", 32)
    mirrored = Augmentation("crop", True, 32)
    unchanged = Augmentation("crop", False, 32)
    draws = mirrored.draws(0, 0, KEYS)
    flips = sum(not np.array_equal(applied(mirrored, pixels, row), applied(unchanged, pixels, row)) for row in draws)
    assert abs(flips - 1500) < 5 * np.sqrt(3000) / 2


def test_none_is_the_eval_view_and_never_mirrors(noise):
    augmentation = Augmentation("none", True, 32)
    pixels = prepare(Image.fromarray(noise(0, 40, 90)), "view", 32)
    for row in augmentation.draws(0, 0, KEYS[:20]):
        assert np.array_equal(applied(augmentation, pixels, row), pixels)


def test_resized_crop_resizes_the_box_as_torchvision_does(noise):
    image = noise(1, 60, 80)
    augmentation = Augmentation("resized-crop", True, 32)
    pixels = prepare(Image.fromarray(image), "original", 32)
    for row in augmentation.draws(3, 1, KEYS[:20]):
        box = resized_crop_box(60, 80, row)
        expected = reference.resized_crop(torch.from_numpy(image).permute(2, 0, 1), *box, [32, 32], antialias=True)
        expected = reference.horizontal_flip(expected) if row[-1] < 0.5 else expected
        assert np.array_equal(applied(augmentation, pixels, row), expected.numpy())


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 100)])
def test_resized_crop_boxes_are_distributed_as_torchvisions(height, width):
    ours = np.array([resized_crop_box(height, width, draws) for draws in uniforms("t", 0, 0, KEYS, 22)])
    image = torch.empty(3, height, width)
    theirs = np.array([_torchvision_box(image) for _ in range(3000)])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    areas = ours[:, 2] * ours[:, 3] / (height * width)
    assert areas.min() > 0.07
    assert areas.max() <= 1


def _torchvision_box(image):
    params = RandomResizedCrop(32).make_params([image])
    return params["top"], params["left"], params["height"], params["width"]


@pytest.mark.parametrize(("height", "width", "expected"), [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))])
def test_where_no_attempt_fits_the_largest_central_part_is_taken(height, width, expected):
    assert resized_crop_box(height, width, [0.999] * 22) == expected


@pytest.mark.parametrize("name", ["crop", "resized-crop"])
def test_augmentation_changes_with_seed_epoch_and_example_only(name):
    augmentation = Augmentation(name, True, 32)
    whole = augmentation.draws(4, 2, KEYS[:50])
    assert augmentation.draws(4, 2, KEYS[[7, 30]]) == [whole[7], whole[30]]
    assert augmentation.draws(4, 3, KEYS[:1]) != whole[:1]
    assert augmentation.draws(5, 2, KEYS[:1]) != whole[:1]
