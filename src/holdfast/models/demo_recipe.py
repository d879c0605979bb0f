"""Small networks that holdfast knows by name."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from holdfast.errors import ConfigError, suggest
from holdfast.models import glyphnet
from holdfast.models.weights import WeightsFile
from holdfast.types import InputSpec

__all__ = ["NAMES", "DemoRecipe", "mobilenetv1_025"]

NAMES = ("glyphnet", "mobilenetv1-025")
HALF = (0.5, 0.5, 0.5)


class DemoRecipe:
    """A network of the family ``demo``.

    Args:
        name: Its name in the catalog.
        image_size: Side in pixels, where not the network's own.

    Raises:
        ConfigError: There is no such network.
    """

    def __init__(self, name: str, image_size: int | None) -> None:
        if name not in NAMES:
            raise ConfigError(f"--model demo:{name}: unknown network {name!r}. {suggest(name, NAMES)}")
        self._name = name
        self._image_size = image_size
        self.notes: list[str] = []

    def build(self) -> nn.Module:
        """A fresh network."""
        return glyphnet.glyphnet() if self._name == "glyphnet" else mobilenetv1_025()

    def input_spec(self, net: nn.Module) -> InputSpec:
        """Their own size and statistics."""
        if self._name == "glyphnet":
            return InputSpec(self._image_size or glyphnet.IMAGE_SIZE, glyphnet.MEAN, glyphnet.STD)
        return InputSpec(self._image_size or 224, HALF, HALF)

    def pretrained(self) -> WeightsFile:
        """The weights that come with holdfast.

        Raises:
            ConfigError: None do, for this network.
        """
        if self._name == "glyphnet":
            with importlib.resources.as_file(importlib.resources.files("holdfast") / "assets" / "glyphnet.safetensors") as path:
                return WeightsFile(Path(path), "the weights of demo:glyphnet")
        raise ConfigError(
            f"--model demo:{self._name}: its weights do not come with holdfast; pass --weights FILE, "
            "or --weights random to start from nothing"
        )

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Nothing to convert: these networks have one form."""
        return None


def mobilenetv1_025(num_classes: int = 1000) -> nn.Module:
    """MobileNetV1 with a quarter of the channels, laid out as Keras Applications trained it.

    Howard et al. 2017, alpha = 0.25: padding "same", BatchNorm with eps 1e-3, ReLU6, no shortcuts; D = 256 features.

    Args:
        num_classes: Outputs of the last layer, ``classifier``.

    Returns:
        A fresh network of timm's class ``EfficientNet``, for images normalised to mean = std = 0.5.
    """
    from timm.models import EfficientNet

    block = {"block_type": "ds", "dw_kernel_size": 3, "noskip": True, "pw_act": True, "act_layer": None}
    stages = [(16, 1, 1), (32, 2, 2), (64, 2, 2), (128, 2, 6), (256, 2, 2)]  # channels, stride of the first block, blocks
    blocks = [
        [block | {"out_chs": channels, "stride": stride if i == 0 else 1} for i in range(count)] for channels, stride, count in stages
    ]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    net: nn.Module = EfficientNet(
        blocks, num_classes=num_classes, num_features=0, stem_size=8, fix_stem=True, pad_type="same", act_layer=nn.ReLU6, norm_layer=norm
    )
    return net
