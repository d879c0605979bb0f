"""Training augmentation, keyed by (seed, epoch, example)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from holdfast.data.keyed import KeyArray, uniforms
from holdfast.data.views import Kind, Pixels

__all__ = ["Augmentation", "Box", "crop_box", "resized_crop_box"]

_ATTEMPTS = 10
_LOG_RATIO = math.log(4 / 3)
_AREA = (0.08, 1.0)

_DRAWS = {"crop": 3, "resized-crop": 2 * _ATTEMPTS + 3, "none": 0}
_KINDS: dict[str, Kind] = {"crop": "resized", "resized-crop": "original", "none": "view"}


class Box(NamedTuple):
    """A part of an image in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Augmentation:
    """How a training image is changed each time it is seen.

    Args:
        name: ``crop``: a random square of the resized image; ``resized-crop``: a random part of 8 to 100 % of the area, resized;
            ``none``: the eval view.
        flip: Whether half of the images are mirrored, except under ``none``.
        size: Side S of the input.
    """

    name: Literal["crop", "resized-crop", "none"]
    flip: bool
    size: int

    @property
    def kind(self) -> Kind:
        """How far images are prepared beforehand."""
        return _KINDS[self.name]

    def draws(self, seed: int, epoch: int, keys: KeyArray) -> list[list[float]]:
        """The uniform numbers each example is changed by."""
        return uniforms("augmentation", seed, epoch, keys, _DRAWS[self.name]).tolist()

    def apply(self, pixels: Pixels, draws: Sequence[float], out: Pixels) -> None:
        """Write an augmented version of prepared pixels into ``out`` (3, S, S)."""
        view = _VIEWS[self.name](pixels, draws, self.size)
        mirrored = self.flip and self.name != "none" and draws[-1] < 0.5
        out[...] = view[..., ::-1] if mirrored else view


def crop_box(height: int, width: int, size: int, draws: Sequence[float]) -> Box:
    """A square at a uniformly random position, from two draws."""
    return Box(int(draws[0] * (height - size + 1)), int(draws[1] * (width - size + 1)), size, size)


def resized_crop_box(height: int, width: int, draws: Sequence[float]) -> Box:
    """A part of 8 to 100 % of the area with a ratio of sides from 3/4 to 4/3, both drawn as torchvision's ``RandomResizedCrop`` does.

    Args:
        height: Of the image.
        width: Of the image.
        draws: Area and ratio for each of ten attempts, then top and left.

    Returns:
        The first attempt that fits, else the largest central part with an allowed ratio.
    """
    for attempt in range(_ATTEMPTS):
        area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * draws[2 * attempt])
        ratio = math.exp(_LOG_RATIO * (2 * draws[2 * attempt + 1] - 1))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            u, v = draws[2 * _ATTEMPTS : 2 * _ATTEMPTS + 2]
            return Box(int(u * (height - h + 1)), int(v * (width - w + 1)), h, w)
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def _random_crop(pixels: Pixels, draws: Sequence[float], size: int) -> Pixels:
    top, left, height, width = crop_box(pixels.shape[1], pixels.shape[2], size, draws)
    return pixels[:, top : top + height, left : left + width]


def _random_resized_crop(pixels: Pixels, draws: Sequence[float], size: int) -> Pixels:
    top, left, height, width = resized_crop_box(pixels.shape[1], pixels.shape[2], draws)
    # Cut out by numpy and with the channels innermost, where torch resizes without its thread pool: that pool costs more than it gives
    # for one image, and fights with the threads of training.
    part = np.ascontiguousarray(pixels.transpose(1, 2, 0)[top : top + height, left : left + width])
    return transforms.resize(torch.from_numpy(part).permute(2, 0, 1), [size, size], antialias=True).numpy()


def _as_it_is(pixels: Pixels, draws: Sequence[float], size: int) -> Pixels:
    return pixels


_VIEWS: dict[str, Callable[[Pixels, Sequence[float], int], Pixels]] = {
    "crop": _random_crop,
    "resized-crop": _random_resized_crop,
    "none": _as_it_is,
}
