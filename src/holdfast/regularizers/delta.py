"""DELTA: feature maps stay near those of the pretrained network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.models.select import channel_axis, map_layers
from holdfast.regularizers.ablation import loss_gaps
from holdfast.regularizers.functional import channel_attention, half_squared_distance, map_distance
from holdfast.terms import Needs, Regularizer, Scope
from holdfast.types import Source, Step

__all__ = ["Delta"]


class Delta(Regularizer):
    """Half the squared distance of some layers' outputs from the pretrained network's, and half the squared norm of the head.

    Li et al., ICLR 2019, with the sum over the batch of Transfer-Learning-Library (commit c4aa59e). The distance is not 0 at the start:
    BatchNorm of the trained network looks at the batch, that of the pretrained one at its running statistics.

    Args:
        attention: Whether channels count by what the loss of a classifier of the target gains without them, found once in ``setup``.
        layers: Names of the layers, joined by commas; ``auto`` for those of :func:`~holdfast.models.select.map_layers`.
        reduction: ``sum`` over the examples of a step, or ``mean``.
        attention_epochs: Epochs that the classifier is trained.
        attention_train_backbone: Whether all its weights are trained, or its head alone.
        attention_batch_size: Examples per batch, for both.
        attention_batches: Batches on which filters are taken out, at most.
    """

    NEEDS = Needs(reference=True)
    SCOPE: ClassVar[Mapping[str, Scope]] = {"backbone": Scope.EXAMPLE, "head": Scope.WEIGHTS}
    SHARDED = True
    STATE = ("channel_weights",)  # (Σ C,), layer after layer; empty without attention
    channel_weights: Tensor | None

    def __init__(
        self,
        *,
        attention: bool = True,
        layers: str = "auto",
        reduction: Literal["sum", "mean"] = "sum",
        attention_epochs: int = 10,
        attention_train_backbone: bool = True,
        attention_batch_size: int = 32,
        attention_batches: int = 10,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.chosen = layers
        self.reduction: Literal["sum", "mean"] = reduction
        self.attention_epochs = attention_epochs
        self.attention_train_backbone = attention_train_backbone
        self.attention_batch_size = attention_batch_size
        self.attention_batches = attention_batches
        self._names: tuple[str, ...] = ()

    def layers(self, net: nn.Module) -> tuple[str, ...]:
        """The layers that are compared.

        Raises:
            ConfigError: The network has no such layer, or is of no make whose layers are known.
        """
        if not self._names:
            self._names = _known(net) if self.chosen == "auto" else _named(self.chosen, net)
        return self._names

    def setup(self, source: Source) -> None:
        """With attention, train a classifier and find the weight of each channel.

        Raises:
            ConfigError: The inputs are texts.
        """
        if not self.attention:
            return
        if isinstance(next(iter(source.shuffled(self.attention_batch_size, self.attention_epochs))).inputs, Mapping):
            self.check_texts()
        net = source.fit_classifier(
            epochs=self.attention_epochs, batch_size=self.attention_batch_size, backbone=self.attention_train_backbone
        )
        batches = islice(source.shuffled(self.attention_batch_size, self.attention_epochs), self.attention_batches)
        gaps = loss_gaps(net, self.layers(net), batches, source.comm)
        self.channel_weights = torch.cat([channel_attention(gap) for gap in gaps]).to(next(net.parameters()).dtype)

    def check_texts(self) -> None:
        """Refuse texts where channels are weighed, since their maps are of another size in every batch.

        Raises:
            ConfigError: There is attention.
        """
        if self.attention:
            raise ConfigError(
                "delta: the attention of channels needs maps of one size, and texts differ in length; type --method.attention false, so "
                "that all channels count the same"
            )

    def penalty(self, step: Step) -> dict[str, Tensor]:
        """``backbone``: the distance of the maps; ``head``: ½ ‖W‖² + ½ ‖b‖²."""
        names = self.layers(step.model)
        maps = [step.features[name] for name in names]
        frozen = step.reference.features(step.inputs, names)
        axes = [channel_axis(step.model.get_submodule(name), tuple(live.shape)) for name, live in zip(names, maps, strict=True)]
        attention = None
        if self.channel_weights is not None:
            attention = self.channel_weights.split([live.shape[axis] for live, axis in zip(maps, axes, strict=True)])
        distance = map_distance(maps, [frozen[name] for name in names], attention=attention, channel_axes=axes, reduction="mean")
        # The mean over the rows of this pass times those of the whole step is the sum over micro-batches and ranks.
        rows = step.batch_size if self.reduction == "sum" else 1
        return {"backbone": rows * distance, "head": half_squared_distance(list(step.head.parameters()))}


def _known(net: nn.Module) -> tuple[str, ...]:
    names = map_layers(net)
    if not names:
        raise ConfigError(f"delta: which layers of a {type(net).__name__} to compare is not known. {_offer(net)}")
    return names


def _named(chosen: str, net: nn.Module) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in chosen.split(",")))
    known = [name for name, _ in net.named_modules() if name]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
            hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
            raise ConfigError(f"delta: --method.layers {chosen!r} names {name!r}, but the network has no such layer. {hint}{_offer(net)}")
    return names


def _offer(net: nn.Module) -> str:
    """What there is to choose from: layers with a matrix or more of weights, but for the last, which is mostly the head."""
    layers = [name for name, layer in net.named_modules() if name and any(p.ndim > 1 for p in layer.parameters(recurse=False))][:-1]
    if not layers:
        return "It has none but the head, so choose another network or method."
    some = ",".join(dict.fromkeys((layers[len(layers) // 2], layers[-1])))
    return f"Name some, as in --method.layers {some}; it has {', '.join(layers[:12])}{', ...' * (len(layers) > 12)}."
