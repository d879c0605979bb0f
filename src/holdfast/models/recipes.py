"""What a model spec such as ``timm:resnet50`` stands for: how to build that network, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from holdfast.errors import ConfigError, suggest
from holdfast.models.weights import WeightsFile
from holdfast.types import InputSpec, TextSpec

if TYPE_CHECKING:
    from holdfast.models.text_form import TextForm

__all__ = ["FAMILIES", "Recipe", "open_recipe"]

FAMILIES = ("timm", "torchvision", "hf", "demo", "python")


class Recipe(Protocol):
    """How one named network is built; each family of models has its own."""

    notes: list[str]
    """What the user should know about choices made here."""

    def build(self) -> nn.Module:
        """The network with its source head, before weights are loaded into it."""

    def input_spec(self, net: nn.Module) -> InputSpec | TextSpec:
        """The images it expects, at the size it was built for, or the texts."""

    def pretrained(self) -> WeightsFile | None:
        """Its own pretrained weights; None where ``build`` gives the network with its weights."""

    def adapt(self, net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors of a file in the form of ``net``; None where no conversion is known."""


def open_recipe(spec: str, image_size: int | None, max_length: int | None = None, form: TextForm | None = None) -> Recipe:
    """The recipe behind ``FAMILY:NAME``.

    Args:
        spec: What the user typed.
        image_size: Side of the images in pixels; None for the network's own.
        max_length: Tokens at most of a text; None for the usual number.
        form: What a run has recorded of its network of texts, to build it again.

    Raises:
        ConfigError: The family or the name is unknown; the message suggests the nearest.
    """
    family, colon, name = spec.partition(":")
    if not colon:
        choices = ", ".join(f"{prefix}:{spec}" for prefix in FAMILIES if prefix != "python")
        raise ConfigError(f"--model: {spec!r} names no family; write {choices} or python:MODULE:FUNCTION")
    if family not in FAMILIES:
        raise ConfigError(f"--model: unknown model family in {spec!r}. {suggest(f'{family}:', [f'{prefix}:' for prefix in FAMILIES])}")
    if not name:
        raise ConfigError(f"--model: {spec!r} has no name after the colon; for example timm:resnet50")
    # Each family imports its library, so only the one in use is loaded.
    if family == "timm":
        from holdfast.models.timm_recipe import TimmRecipe

        return TimmRecipe(name, image_size)
    if family == "torchvision":
        from holdfast.models.torchvision_recipe import TorchvisionRecipe

        return TorchvisionRecipe(name, image_size)
    if family == "hf":
        from holdfast.models.text_recipe import TextRecipe

        return TextRecipe(name, max_length, form)
    if family == "demo":
        from holdfast.models.demo_recipe import DemoRecipe

        return DemoRecipe(name, image_size)
    from holdfast.models.python_recipe import PythonRecipe

    return PythonRecipe(name, image_size)
