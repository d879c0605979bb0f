from __future__ import annotations

import json
import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open

import holdfast
from holdfast.models.glyphnet import IMAGE_SIZE, LETTER_CLASSES, glyphnet

WEIGHTS = Path(holdfast.__file__).parent / "assets" / "glyphnet.safetensors"


@pytest.fixture
def stored():
    with safe_open(WEIGHTS, "pt") as file:
        yield file


def test_weights_fit_the_network(stored):
    glyphnet().load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 (safe_open is no dict)


def test_weights_are_small_enough_for_the_package():
    assert WEIGHTS.stat().st_size < 2_000_000


def test_weights_were_made_for_these_letters(stored):
    assert tuple(json.loads(stored.metadata()["classes"])) == LETTER_CLASSES


def test_no_digit_is_among_the_source_classes():
    letters = "".join(LETTER_CLASSES)
    assert all(unicodedata.category(letter) in ("Lu", "Ll") for letter in letters)
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("font", ["cmss10", "cmtt10"])
def test_weights_read_the_capitals_of_a_font_held_out(stored, font):
    metadata = stored.metadata()
    assert font in json.loads(metadata["held_out_fonts"])
    assert font not in json.loads(metadata["fonts"])
    net = glyphnet()
    net.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    images = torch.stack([drawn(letter, Path(get_data_path(), "fonts", "ttf", f"{font}.ttf")) for letter in string.ascii_uppercase])
    with torch.no_grad():
        labels = net.eval()(images).argmax(dim=1).tolist()
    right = sum(letter in LETTER_CLASSES[label] for letter, label in zip(string.ascii_uppercase, labels, strict=True))
    assert right >= 24  # of 26; guessing among 79 classes gives none


def drawn(letter: str, font: Path) -> torch.Tensor:
    """A white letter on black as the network expects it: (3, IMAGE_SIZE, IMAGE_SIZE), from -1 to 1."""
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))
    ImageDraw.Draw(image).text((IMAGE_SIZE / 2, IMAGE_SIZE / 2), letter, anchor="mm", font=ImageFont.truetype(font, size=28))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1


def test_features_are_64_wide():
    net = glyphnet(num_classes=10)
    assert (net.fc.in_features, net.fc.out_features) == (64, 10)
    assert net(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)).shape == (2, 10)
