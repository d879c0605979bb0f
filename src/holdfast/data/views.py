"""The deterministic part of what happens to an image: done once, and kept in memory where that fits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from holdfast.data.decode import to_pixels

__all__ = ["Kind", "Pixels", "centre_crop", "eval_view", "prepare", "short_side", "view_of"]

Pixels = npt.NDArray[np.uint8]

Kind = Literal["view", "resized", "original"]
"""How far an image is prepared: to the eval view (3, S, S); resized with both sides whole; decoded only."""


def short_side(size: int) -> int:
    """The short side in pixels that an image is resized to before a crop of ``size``: 256 for 224.

    Example:
        >>> short_side(224), short_side(128)
        (256, 146)
    """
    return round(size * 256 / 224)


def eval_view(image: Tensor, size: int) -> Tensor:
    """The un-augmented view: short side resized (antialiased bilinear), square cut from the centre.

    Args:
        image: Pixels (3, H, W), uint8.
        size: Side S of the input.

    Returns:
        Pixels (3, S, S), uint8.
    """
    return torch.from_numpy(prepare(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()), "view", size))


def prepare(image: Image.Image, kind: Kind, size: int) -> Pixels:
    """Pixels (3, H, W) of a decoded image, prepared as far as ``kind`` says.

    ``original`` pixels lie in memory channel by channel within each pixel, the layout that resizing is fastest on.
    """
    if kind == "original":
        return np.array(image).transpose(2, 0, 1)
    # Pillow's resampling is whole-number arithmetic: the same pixels on every machine and with any number of threads.
    resized = to_pixels(_resize_short_side(image, short_side(size)))
    return resized if kind == "resized" else centre_crop(resized, size)


def view_of(pixels: Pixels, kind: Kind, size: int) -> Pixels:
    """The eval view (3, S, S) of prepared pixels."""
    if kind == "original":
        return prepare(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), "view", size)
    return centre_crop(pixels, size) if kind == "resized" else pixels


def centre_crop(pixels: Pixels, size: int) -> Pixels:
    """The square in the middle, rounded as torchvision does."""
    top, left = (round((side - size) / 2) for side in pixels.shape[1:])
    return np.ascontiguousarray(pixels[:, top : top + size, left : left + size])


def _resize_short_side(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    if min(width, height) == side:
        return image
    new = (side, side * height // width) if width <= height else (side * width // height, side)
    return image.resize(new, Image.Resampling.BILINEAR)
