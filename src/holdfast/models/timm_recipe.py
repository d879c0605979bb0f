"""Networks of timm."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError, ModelError
from holdfast.models.head import find_head
from holdfast.models.hub import from_hub, from_url
from holdfast.models.weights import WeightsFile
from holdfast.types import InputSpec

__all__ = ["TimmRecipe"]

FILENAMES = ("model.safetensors", "pytorch_model.bin")

ADAPTING = 0x9E3779B9
"""A seed that nobody types, so that what it draws is in no file."""


class TimmRecipe:
    """A network of timm by its name there, with or without the tag of its weights (``resnet50.a1_in1k``).

    Args:
        name: timm's name.
        image_size: Side in pixels, where not the network's own.

    Raises:
        ConfigError: timm has no such network or weights.
    """

    def __init__(self, name: str, image_size: int | None) -> None:
        if not timm.is_model(name):
            raise ConfigError(f"--model timm:{name}: timm {timm.__version__} has no such network. {_nearest(name, timm.list_models())}")
        try:
            self._source = timm.get_pretrained_cfg(name)
        except RuntimeError as error:
            architecture = name.partition(".")[0]
            tags = timm.list_models(f"{architecture}.*", pretrained=True)
            raise ConfigError(f"--model timm:{name}: timm has no weights of that tag. {_nearest(name, tags)}") from error
        self._name = name
        self._image_size = image_size
        self.notes: list[str] = []

    def build(self) -> nn.Module:
        """A fresh network with the source's classes, or one output where the source has no head.

        Raises:
            ModelError: It cannot be built for the image size, or has two heads.
        """
        net = self._create(num_classes=None if self._source is None or self._source.num_classes else 1)
        if isinstance(net.get_classifier(), (tuple, list)):  # type: ignore[operator]  # timm gives every network this method
            single = self._name.partition(".")[0].replace("_distilled", "")
            other = f"timm:{single}" if single != self._name.partition(".")[0] and timm.is_model(single) else "timm:vit_tiny_patch16_224"
            raise ModelError(
                f"--model timm:{self._name}: a network with a second head for distillation, and holdfast trains one; "
                f"choose one without, such as {other}"
            )
        return net

    def _create(self, **options: Any) -> nn.Module:
        options = {name: value for name, value in options.items() if value is not None}
        own = self._fixed_size()
        if own is None or self._image_size in (None, own):
            return timm.create_model(self._name, **options)
        try:
            return timm.create_model(self._name, img_size=self._image_size, **options)
        except (TypeError, AssertionError, ValueError) as error:
            raise ModelError(
                f"--image-size {self._image_size}: timm:{self._name} cannot be built for this size ({error}); its own is {own}"
            ) from error

    def _fixed_size(self) -> int | None:
        """The network's own size, where weights such as position embeddings depend on it."""
        source = self._source
        return source.input_size[-1] if source is not None and source.fixed_input_size else None

    def input_spec(self, net: nn.Module) -> InputSpec:
        """Size and statistics that timm states for the weights."""
        config: Mapping[str, Any] = net.pretrained_cfg  # type: ignore[assignment]  # set by timm on every network
        channels, _, size = config["input_size"]
        if channels != 3:
            raise ModelError(f"--model timm:{self._name}: the network expects {channels} channels, holdfast gives 3 (RGB); choose another")
        return InputSpec(self._image_size or size, tuple(config["mean"]), tuple(config["std"]))

    def pretrained(self) -> WeightsFile:
        """The weights that timm names, from the hub."""
        source, model = self._source, f"timm:{self._name}"
        label = f"the pretrained file of {model}"
        if source is not None and source.hf_hub_id:
            names = (source.hf_hub_filename,) if source.hf_hub_filename else FILENAMES
            return WeightsFile(from_hub(source.hf_hub_id, names, model=model), label, hub=source.hf_hub_id)
        if source is not None and isinstance(source.url, str) and source.url:
            return WeightsFile(from_url(source.url, model=model), label, hub=source.url)
        raise ModelError(f"--model {model}: timm has no pretrained weights for it; pass --weights FILE, or --weights random")

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors resampled to the image size or renamed, by what timm does with pretrained weights of this network."""
        head = tensors.get(f"{find_head(net)}.weight")
        if head is not None:
            return self._converted(tensors, len(head))
        # Either there is no head, and a network without one takes all tensors, or timm knows it by another name.
        converted = self._converted(tensors, 0)
        if converted is None and self._source is not None and self._source.num_classes:
            converted = self._converted(tensors, self._source.num_classes)
        return converted

    def _converted(self, tensors: Mapping[str, Tensor], classes: int) -> dict[str, Tensor] | None:
        overlay = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": 0}
        torch.default_generator.manual_seed(ADAPTING)  # the caller keeps the random state of the process
        fresh = self._create(num_classes=classes)
        torch.default_generator.manual_seed(ADAPTING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the speed of the interpolation
                converted = self._create(num_classes=classes, pretrained=True, pretrained_cfg_overlay=overlay)
        except (AssertionError, AttributeError, IndexError, KeyError, ModelError, RuntimeError, TypeError, ValueError):
            return None  # timm's converters expect weights of their network and fail on others in any of these ways
        untouched = _untouched(converted, fresh)
        return {name: value for name, value in converted.state_dict().items() if name not in untouched}


def _untouched(net: nn.Module, fresh: nn.Module) -> set[str]:
    """Parameters that still are as they were drawn: some networks of timm load leniently, and these were not in the file."""
    drawn = dict(fresh.named_parameters())
    return {name for name, value in net.named_parameters() if value.requires_grad and _varies(value) and torch.equal(value, drawn[name])}


def _varies(tensor: Tensor) -> bool:
    """Whether a tensor holds more than one value, which ones, zeros and layer scales do not."""
    return bool((tensor != tensor.flatten()[0]).any())


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6) or known[:3]
    return f"Did you mean {', '.join(repr(f'timm:{other}') for other in near)}?" if near else "Leave the tag out."
