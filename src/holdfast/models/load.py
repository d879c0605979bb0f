"""A pretrained network from what the user typed: ``--model``, ``--weights``, ``--head``, ``--head-dropout``, ``--image-size``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from holdfast.models.head import find_head
from holdfast.models.head_dropout import set_head_dropout
from holdfast.models.linear_head import with_linear_head
from holdfast.models.matching import load_tensors
from holdfast.models.recipes import open_recipe
from holdfast.models.weights import WeightsFile, read_weights
from holdfast.types import InputSpec, TextSpec

if TYPE_CHECKING:
    from holdfast.models.text_form import TextForm

__all__ = ["Pretrained", "load_pretrained"]


@dataclass(frozen=True)
class Pretrained:
    """A network at its pretrained weights.

    Args:
        net: The bare network with its source head.
        head_name: Qualified name of its final Linear.
        input: The images or texts it expects.
        origin: Where the weights come from: ``spec``, ``weights`` as typed or None, ``sha256`` of the file if one was read, ``random``,
            ``hub`` (repository or URL, if from there), and for a network of texts ``pooling``.
        source_head: Whether the weights brought a head; otherwise that of ``net`` is freshly drawn.
        notes: What the user should be told.
    """

    net: nn.Module
    head_name: str
    input: InputSpec | TextSpec
    origin: dict[str, Any]
    source_head: bool
    notes: list[str]


def load_pretrained(
    spec: str,
    *,
    weights: str | None = None,
    head: str | None = None,
    head_dropout: float | None = None,
    image_size: int | None = None,
    max_length: int | None = None,
    form: TextForm | None = None,
    seed: int = 0,
) -> Pretrained:
    """Build the network ``spec`` and load its weights.

    Random numbers of the process stay as they are.

    Args:
        spec: ``timm:NAME``, ``torchvision:NAME``, ``hf:FOLDER``, ``hf:ID``, ``demo:NAME`` or ``python:MODULE:FUNCTION``.
        weights: A file with weights for it, or ``random``; None for its own pretrained weights.
        head: Name of the final Linear, where it is not found by itself.
        head_dropout: Dropout directly in front of the head; None for 0.
        image_size: Side of the images in pixels; None for the network's own.
        max_length: Tokens at most of a text; None for the usual number.
        form: What a run has recorded of its network of texts, to build it again without the folder it came from.
        seed: Seed of whatever is drawn.

    Raises:
        ConfigError: A name is unknown or a file is not there.
        ModelError: The network cannot be built or has no head that can be used, or its weights cannot be had.
        CheckpointError: The weights file is damaged, unsafe, or belongs to another network.
    """
    recipe = open_recipe(spec, image_size, max_length, form)
    random = weights == "random"
    file = None if random else WeightsFile.given(weights) if weights is not None else recipe.pretrained()
    tensors = None if file is None else read_weights(file)
    notes = []
    with _own_randomness(seed):
        built = recipe.build()
        expected = recipe.input_spec(built)
        headed = with_linear_head(built, recipe.adapt, expected, label=f"--model {spec}")
        net = headed.net
        head_name = find_head(net, head, label=f"--model {spec}")
        source_head = not random and not headed.fresh
        if file is not None and tensors is not None:
            loaded = load_tensors(net, head_name, tensors, headed.adapt, label=file.label, model=spec)
            source_head = loaded.source_head
            notes += [] if source_head else [f"{file.label} brings no head {head_name!r}"]
            notes += [f"{file.label} was converted to the form of {spec}"] if loaded.converted else []
    notes += [f"--weights random: {spec} starts from nothing, drawn with seed {seed}"] if random else []
    notes += recipe.notes + headed.notes + set_head_dropout(net, head_name, head_dropout, expected)
    origin = _origin(spec, weights, file) | ({"pooling": expected.pooling} if isinstance(expected, TextSpec) else {})
    return Pretrained(net, head_name, expected, origin, source_head, notes)


def _origin(spec: str, weights: str | None, file: WeightsFile | None) -> dict[str, Any]:
    return {
        "spec": spec,
        "weights": weights,
        "sha256": None if file is None else file.sha256(),
        "random": weights == "random",
        "hub": None if file is None else file.hub,
    }


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Draw from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        yield
