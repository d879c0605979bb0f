"""The real MobileNetV1-0.25 weights: strict loading, the network against its layer graph, and what it recognises."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from holdfast.errors import CheckpointError
from holdfast.models.load import load_pretrained
from holdfast.models.reference import FrozenReference

pytestmark = pytest.mark.real

BEE, ANT = 309, 310  # ImageNet classes

STRIDES = {(1, 0): 2, (2, 0): 2, (3, 0): 2, (4, 0): 2}
"""Depthwise layers that halve the map; all others keep it."""


@pytest.fixture(scope="module")
def weights(data_dir: Path) -> Path:
    path = data_dir / "mobilenetv1_025_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the data folder")
    return path


@pytest.fixture(scope="module")
def hymenoptera(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = data_dir / "hymenoptera.tar"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not in the data folder")
    folder = tmp_path_factory.mktemp("images")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "hymenoptera" / "val"


def preprocessed(path: Path) -> Tensor:
    """Short side to 256 (antialiased bilinear), centre crop of 224, normalised to mean = std = 0.5."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = 256 / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 127.5 - 1


def layer_graph(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """MobileNetV1 as Keras defines it, layer by layer: "same" padding, eps 1e-3, ReLU6, mean over the map, one linear layer."""

    def convolution(maps: Tensor, weight: str, norm: str, stride: int = 1) -> Tensor:
        kernel = tensors[f"{weight}.weight"]
        side = kernel.shape[-1]
        # "same": ceil(size / stride) outputs; what padding is odd goes to the right and below.
        total = max((-(-maps.shape[-1] // stride) - 1) * stride + side - maps.shape[-1], 0)
        padded = F.pad(maps, (total // 2, total - total // 2) * 2)
        maps = F.conv2d(padded, kernel, stride=stride, groups=maps.shape[1] if kernel.shape[1] == 1 else 1)
        mean, var, scale, shift = (tensors[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias"))
        return ((maps - mean) / (var + 1e-3).sqrt() * scale + shift).clamp(0, 6)

    maps = convolution(images, "conv_stem", "bn1", stride=2)
    for stage, count in enumerate((1, 2, 2, 6, 2)):
        for block in range(count):
            name = f"blocks.{stage}.{block}"
            maps = convolution(maps, f"{name}.conv_dw", f"{name}.bn1", STRIDES.get((stage, block), 1))
            maps = convolution(maps, f"{name}.conv_pw", f"{name}.bn2")
    return maps.mean(dim=(2, 3)) @ tensors["classifier.weight"].T + tensors["classifier.bias"]


def test_the_weights_load_strictly_with_their_head(weights: Path) -> None:
    tensors = load_file(weights)
    loaded = load_pretrained("demo:mobilenetv1-025", weights=str(weights))
    state = loaded.net.state_dict()
    assert state.keys() == tensors.keys()
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)
    assert loaded.source_head
    assert loaded.notes == []
    assert sum(parameter.numel() for parameter in loaded.net.parameters()) == 470072


def test_the_network_is_the_layer_graph_of_its_source(weights: Path) -> None:
    tensors = {name: tensor.double() for name, tensor in load_file(weights).items()}
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = load_pretrained("demo:mobilenetv1-025", weights=str(weights)).net.eval().double()
    with torch.no_grad():
        torch.testing.assert_close(net(images), layer_graph(tensors, images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "label", "first", "among_five", "total"), [("ants", ANT, 16, 37, 70), ("bees", BEE, 25, 49, 83)])
def test_ants_and_bees_are_recognised(
    weights: Path, hymenoptera: Path, name: str, label: int, first: int, among_five: int, total: int
) -> None:
    # At their original resolution the same images give 16 / 42 of 70 ants and 51 / 70 of 83 bees (README of the data). These are
    # enlarged from 144 px, which costs bees. Wrong padding leaves 2 and 6 hits, wrong normalisation 11 and 18, swapped colours 10 and 12.
    images = torch.stack([preprocessed(path) for path in sorted((hymenoptera / name).glob("*.jpg"))])
    reference = FrozenReference.from_pretrained(load_pretrained("demo:mobilenetv1-025", weights=str(weights)))
    best = torch.cat([reference.logits(part) for part in images.split(32)]).topk(5).indices
    assert len(best) == total
    # Another version of Pillow may decode or resize a pixel differently.
    assert abs(int((best[:, 0] == label).sum()) - first) <= 2
    assert abs(int((best == label).any(dim=1).sum()) - among_five) <= 2


def test_weights_of_the_full_width_network_are_refused(weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit timm:mobilenetv1_100, tensors: .*of another shape"):
        load_pretrained("timm:mobilenetv1_100", weights=str(weights))
