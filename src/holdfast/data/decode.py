"""From the bytes of an image file to 8-bit RGB, whatever the file holds."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from holdfast.errors import DataError

__all__ = ["check_header", "decode_image", "decode_rgb", "to_pixels"]

# Formats are named, since Pillow also reads some that start other programs (EPS), whatever the file is called.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LONGEST = 200
"""Largest ratio of the sides. A strip of one pixel by thousands would fill the memory once its short side is scaled up."""


def decode_image(source: str | Path | bytes) -> Tensor:
    """The pixels of an image file, of its first frame if it has several.

    Transparency is laid on white, EXIF rotation is applied, colour profiles are ignored. 16-bit gray is divided by 257. Floating-point gray
    within [0, 1] is multiplied by 255; with other values the image is scaled from its own minimum and maximum, since there is no
    agreed range, and so is 32-bit integer gray beyond 16 bits.

    Args:
        source: A file, or its bytes.

    Returns:
        Pixels (3, H, W), uint8, RGB.

    Raises:
        DataError: The file cannot be read as an image; the message names the file, if there is one, and the reason.
    """
    if isinstance(source, bytes):
        return torch.from_numpy(to_pixels(decode_rgb(source)))
    try:
        return torch.from_numpy(to_pixels(decode_rgb(Path(source).read_bytes())))
    except OSError as error:
        raise DataError(f"{source}: the file cannot be read ({error.strerror or error}).") from None
    except DataError as error:
        raise DataError(f"{source}: the image cannot be read ({error}).") from None


def to_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels (3, H, W) of an RGB image."""
    return np.array(np.asarray(image).transpose(2, 0, 1), order="C")


def decode_rgb(data: bytes) -> Image.Image:
    """The image in mode RGB, upright.

    Raises:
        DataError: It cannot be read; the message is the bare reason.
    """
    try:
        with _open(io.BytesIO(data)) as image:
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead to
        raise DataError(_reason(error, data)) from None


def check_header(file: Any) -> None:
    """Read the beginning of an image file and no pixels.

    Raises:
        DataError: It is no image; the message is the bare reason.
    """
    try:
        _open(file).close()
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(_reason(error, b"unknown")) from None


def _open(file: Any) -> Image.Image:
    image = Image.open(file, formats=_formats())
    width, height = image.size
    if max(width, height) > _LONGEST * min(width, height):
        raise DataError(f"{width} x {height} pixels: one side is over {_LONGEST} times the other")
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # which ones Pillow was built with


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "so many pixels that it may be a decompression bomb"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format, or damaged"
    text = str(error).partition("\n")[0].strip()
    return text[:1].lower() + text[1:] if text else type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _to_8_bits(gray: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Gray values (H, W) of more than 8 bits, on 0..255."""
    if gray.dtype.kind == "f":
        if not np.isfinite(gray).all():
            raise DataError("it holds NaN" if np.isnan(gray).any() else "it holds infinite values")
        low, high = (0.0, 1.0) if gray.min() >= 0 and gray.max() <= 1 else (float(gray.min()), float(gray.max()))
    else:
        low, high = (0.0, 65535.0) if gray.min() >= 0 and gray.max() <= 65535 else (float(gray.min()), float(gray.max()))
    scaled = (gray.astype(np.float64) - low) * (255 / (high - low) if high > low else 0.0)
    return np.floor(scaled + 0.5).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged note about the picture does not spoil the picture
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
