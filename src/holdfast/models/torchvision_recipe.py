"""Classification networks of torchvision."""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models import SqueezeNet
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from holdfast.errors import ConfigError, ModelError
from holdfast.models.hub import from_url
from holdfast.models.weights import WeightsFile
from holdfast.types import InputSpec

__all__ = ["TorchvisionRecipe"]

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")

SQUEEZED = 512
"""Channels of SqueezeNet's last map."""


class TorchvisionRecipe:
    """A network of torchvision by its name there, with its default weights.

    Args:
        name: torchvision's name.
        image_size: Side in pixels, where not that of the weights.

    Raises:
        ConfigError: torchvision has no such classification network.
    """

    def __init__(self, name: str, image_size: int | None) -> None:
        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.6) or names[:3]
            hint = ", ".join(repr(f"torchvision:{other}") for other in near)
            raise ConfigError(
                f"--model torchvision:{name}: torchvision {torchvision.__version__} has no such classifier. Did you mean {hint}?"
            )
        self._name = name
        self._weights = torchvision.models.get_model_weights(name).DEFAULT
        self._transforms = self._weights.transforms()
        self._size = image_size or self._transforms.crop_size[0]
        self.notes: list[str] = []

    def build(self) -> nn.Module:
        """A fresh network."""
        options: dict[str, Any] = {}
        if self._name.startswith("vit_"):
            options["image_size"] = self._size
        if self._name in WITH_AUXILIARY_HEADS:  # as torchvision builds them around its weights
            options = {"aux_logits": False, "transform_input": True, "init_weights": True}
        try:
            net: nn.Module = torchvision.models.get_model(self._name, **options)
        except AssertionError as error:
            raise ModelError(f"--image-size {self._size}: torchvision:{self._name} cannot be built for this size ({error})") from error
        if isinstance(net, SqueezeNet):
            net.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(SQUEEZED, 1))
            self.notes.append(f"torchvision:{self._name}: its convolutional head gave way to pooling and a fresh Linear layer")
        return net

    def input_spec(self, net: nn.Module) -> InputSpec:
        """Size and statistics that the weights state."""
        return InputSpec(self._size, tuple(self._transforms.mean), tuple(self._transforms.std))

    def pretrained(self) -> WeightsFile:
        """Torchvision's default weights."""
        model = f"torchvision:{self._name}"
        return WeightsFile(from_url(self._weights.url, model=model), f"the pretrained file of {model}", hub=self._weights.url)

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Position embeddings resampled to the image size; older names of DenseNet; heads that are not built left out."""
        if isinstance(net, VisionTransformer):
            return _resampled(net, tensors)
        if self._name in WITH_AUXILIARY_HEADS:
            return {name: value for name, value in tensors.items() if not name.lower().startswith("aux")}
        if isinstance(net, SqueezeNet):
            return {name: value for name, value in tensors.items() if not name.startswith("classifier.")}
        if self._name.startswith("densenet"):
            return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): value for name, value in tensors.items()}
        return None


def _resampled(net: VisionTransformer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    try:
        return dict(interpolate_embeddings(net.image_size, net.patch_size, OrderedDict(tensors)))
    except (KeyError, RuntimeError, ValueError):  # no position embeddings, or not of a square
        return None
