from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data import decode_image
from holdfast.data.decode import check_header, decode_rgb
from holdfast.errors import DataError

GRADIENT = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(data):
    """Decoded pixels (H, W, 3)."""
    return decode_image(data).permute(1, 2, 0).numpy()


def gray(values):
    """Gray values (H, W) as RGB (H, W, 3)."""
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=2)


def test_rgb_pixels_come_out_as_they_are_channels_first(noise):
    image = noise(0)
    decoded = decode_image(encoded(Image.fromarray(image)))
    assert decoded.dtype == torch.uint8
    assert decoded.is_contiguous()
    assert np.array_equal(decoded.numpy(), np.moveaxis(image, 2, 0))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "PPM"])
def test_grayscale_is_repeated(format):
    assert np.array_equal(pixels(encoded(Image.fromarray(GRADIENT), format)), gray(GRADIENT))


def test_one_bit_images_are_black_and_white():
    bits = GRADIENT > 100
    assert np.array_equal(pixels(encoded(Image.fromarray(bits))), gray(np.where(bits, 255, 0)))


def test_palette_colours_are_looked_up():
    image = Image.fromarray(GRADIENT // 60).convert("P")
    palette = [10, 20, 30, 200, 0, 0, 0, 200, 0, 1, 2, 3, 9, 9, 9]
    image.putpalette(palette)
    expected = np.array(palette, dtype=np.uint8).reshape(-1, 3)[GRADIENT // 60]
    assert np.array_equal(pixels(encoded(image)), expected)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_palette_entries_become_white(format):
    image = Image.fromarray(GRADIENT // 60).convert("P")
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [1, 2, 3], [9, 9, 9]], dtype=np.uint8)
    image.putpalette(palette.ravel().tolist())
    expected = palette.copy()
    expected[2] = 255
    assert np.array_equal(pixels(encoded(image, format, transparency=2)), expected[GRADIENT // 60])


def test_partly_transparent_palette_entries_are_mixed_with_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 100, 100, 100])
    image.putpixel((1, 0), 1)
    # The PNG has a table of alphas: 128/255 of black over white, and 100 opaque.
    assert np.abs(pixels(encoded(image, transparency=bytes([128, 255])))[0, :, 0].astype(int) - [127, 100]).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_composited_on_white(mode):
    colour, alpha = np.meshgrid(np.arange(0, 256, 15), np.arange(0, 256, 15))
    layers = [colour] * (3 if mode == "RGBA" else 1) + [alpha]
    image = Image.fromarray(np.stack(layers, axis=2).astype(np.uint8))
    assert image.mode == mode
    expected = colour * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(pixels(encoded(image)) - expected[..., None]).max() <= 1


def test_a_gray_value_marked_transparent_becomes_white():
    image = Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert pixels(encoded(image, transparency=7))[0, :, 0].tolist() == [255, 8]


def test_cmyk_is_converted_by_subtraction():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    image = Image.merge("CMYK", [Image.fromarray(inks[..., k]) for k in range(4)])
    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0], [127, 127, 127]]
    assert np.abs(pixels(encoded(image, "TIFF"))[0].astype(int) - expected).max() <= 1


def test_cmyk_jpeg_has_the_colours_it_was_saved_with():
    image = Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK")
    assert np.abs(pixels(encoded(image, "JPEG", quality=95)).astype(int) - [200, 40, 40]).max() <= 6


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_divided_by_257(format):
    values = np.array([[0, 128, 129, 257], [25700, 65406, 65407, 65535]], dtype=np.uint16)
    expected = [[0, 0, 1, 1], [100, 254, 255, 255]]
    assert np.array_equal(pixels(encoded(Image.fromarray(values), format)), gray(expected))


def test_sixteen_bit_pgm_is_divided_by_257():
    assert pixels(b"P5 2 1 65535\n" + bytes([100, 100, 255, 255]))[0, :, 0].tolist() == [100, 255]


def test_float_tiff_within_zero_and_one_is_multiplied_by_255():
    values = np.array([[0.25, 0.5], [0.125, 0.875]], dtype=np.float32)
    expected = [[64, 128], [32, 223]]  # 63.75, 127.5, 31.875, 223.125, halves up
    assert np.array_equal(pixels(encoded(Image.fromarray(values), "TIFF")), gray(expected))


def test_float_tiff_beyond_zero_and_one_is_scaled_from_minimum_to_maximum():
    values = np.array([[-3.0, 0.0], [2.0, 7.0]], dtype=np.float32)
    assert np.array_equal(pixels(encoded(Image.fromarray(values), "TIFF")), gray([[0, 77], [128, 255]]))


def test_constant_float_tiff_is_black():
    assert not pixels(encoded(Image.fromarray(np.full((3, 3), 40.0, dtype=np.float32)), "TIFF")).any()


def test_large_integer_tiff_is_scaled_from_minimum_to_maximum():
    values = np.array([[-100_000, 0], [50_000, 100_000]], dtype=np.int32)
    assert np.array_equal(pixels(encoded(Image.fromarray(values), "TIFF")), gray([[0, 128], [191, 255]]))


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_float_tiff_that_is_not_finite_is_unreadable(value, reason):
    values = np.ones((4, 4), dtype=np.float32)
    values[2, 1] = value
    with pytest.raises(DataError, match=reason):
        decode_image(encoded(Image.fromarray(values), "TIFF"))


# What a viewer does to stored pixels for each value of the EXIF tag, by its definition: where the first row and column lie.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied_once(format, orientation):
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :16] = [250, 20, 20]  # 8 px blocks of one colour survive JPEG
    stored[8:, :16] = [20, 250, 20]
    stored[:8, 16:] = [20, 20, 250]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    decoded = pixels(encoded(Image.fromarray(stored), format, exif=exif, **options))
    expected = UPRIGHT[orientation](stored)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= (12 if format == "JPEG" else 0)


def test_damaged_exif_does_not_spoil_the_image(monkeypatch):
    def broken(image):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert np.array_equal(pixels(encoded(Image.fromarray(GRADIENT))), gray(GRADIENT))


def test_the_first_frame_of_an_animation_counts(noise):
    first, second = (Image.fromarray(GRADIENT + shift) for shift in (0, 9))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert np.array_equal(pixels(data), gray(GRADIENT))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_files_are_unreadable(noise, format, share):
    data = encoded(Image.fromarray(noise(1, 64, 64)), format)
    with pytest.raises(DataError, match="truncated"):
        decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "."),
    ],
)
def test_what_is_no_image_is_unreadable(data, reason):
    with pytest.raises(DataError, match=reason):
        decode_image(data)


def test_decompression_bombs_are_refused_before_they_are_decoded(monkeypatch):
    data = encoded(Image.new("L", (300, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(DataError, match="decompression bomb"):
        decode_image(data)


def test_strips_of_extreme_shape_are_refused():
    with pytest.raises(DataError, match=r"1 x 500 pixels: one side is over 200 times the other"):
        decode_image(encoded(Image.new("L", (1, 500))))


def test_errors_about_files_name_them(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"bad\.png: the image cannot be read \(not an image"):
        decode_image(bad)
    with pytest.raises(DataError, match=r"none\.png: the file cannot be read \(No such file"):
        decode_image(str(tmp_path / "none.png"))


def test_a_header_check_reads_no_pixels(noise):
    data = encoded(Image.fromarray(noise(1, 64, 64)), "JPEG")
    check_header(io.BytesIO(data[:-200]))
    with pytest.raises(DataError):
        decode_rgb(data[:-200])
    with pytest.raises(DataError, match="not an image"):
        check_header(io.BytesIO(b"nonsense"))
