"""The one protocol of an objective's parts: a task loss and any number of regularizers.

Both are terms with the same life cycle (``setup``, every forward, ``after_step`` or ``discard_step``, ``metrics``) and differ
only in what they compute. A term is an ordinary ``nn.Module`` that knows nothing of the training loop.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from holdfast.types import Batch, Comm, Draws, HeadForm, Source, Step, Update

__all__ = ["ModelTransform", "Needs", "Regularizer", "Scope", "TaskLoss", "Term"]


class Scope(enum.Enum):
    """How a scalar meets several ranks (guide 3.1)."""

    EXAMPLE = "example"
    """A mean over examples: averaging gradients over ranks is exact."""
    WEIGHTS = "weights"
    """Depends on parameters alone, the same on every rank."""
    BATCH = "batch"
    """Depends on the batch jointly, so it gathers through ``step.comm.gather``."""


@dataclass(frozen=True)
class Needs:
    """What a term asks of a forward pass.

    Args:
        layers: Names of captured features, ``"pooled"`` being the input of the head; layers that depend on the network are named by
            :meth:`Term.layers`.
        reference: Whether the frozen pretrained network is used after ``setup`` too, and so stays in memory.
        source_head: Whether the pretrained network must have brought its own head.
        hard_labels: Whether soft targets are refused.
        index: Whether state is kept for each example, by ``step.index``.
        weights: Whether a task loss multiplies the loss of each example by its ``step.weights``, where there are some; batches with
            weights are refused where it does not.
        views: How many further augmented views of each batch, beyond the first.
        extra: Names of further datasets of which each batch brings rows; ``"source"`` is the data of pretraining.
        head: The form of the head, where the method depends on it.
        live_batchnorm: Whether BatchNorm must follow the batches, and not stay as pretrained.
    """

    layers: tuple[str, ...] = ()
    reference: bool = False
    source_head: bool = False
    hard_labels: bool = False
    index: bool = False
    weights: bool = False
    views: int = 0
    extra: tuple[str, ...] = ()
    head: HeadForm | None = None
    live_batchnorm: bool = False


class Term(nn.Module):
    """Base of task losses and regularizers.

    ``STATE`` names the tensors whose size is known only in ``setup``. Each is registered empty here, assigned by ``setup``, and
    created by ``load_state_dict`` with the shape, type and kind (buffer or parameter) it was saved with, so resuming skips
    ``setup``. ``NEEDS``, ``SCOPE`` and ``SHARDED`` belong to the class, or to the object where they depend on its options.

    ``SHARDED`` says that the term works where FSDP spreads the network's parameters over ranks: of the network it reads outputs, features
    and the head, in a forward pass, and other parameters only by their parts. Terms that do not say so are refused there.
    """

    NEEDS: Needs = Needs()
    SHARDED: bool = False
    SCOPE: ClassVar[Scope | Mapping[str, Scope]] = Scope.EXAMPLE
    STATE: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        for name in self.STATE:
            self.register_buffer(name, None)

    def check(self, num_classes: int) -> None:
        """Refuse options that do not fit K classes; called before anything is written."""

    def layers(self, net: nn.Module) -> tuple[str, ...]:
        """Which layers of this network to capture, by their names in it; called once, before ``setup``."""
        return self.NEEDS.layers

    def setup(self, source: Source) -> None:
        """Fill what ``STATE`` names, before the first step."""

    def pretrained_parameters(self) -> tuple[nn.Parameter, ...]:
        """Those of its parameters that began as pretrained weights, and so learn at the rate of the backbone; known after ``setup``."""
        return ()

    def extra_classes(self) -> Mapping[str, Tensor]:
        """Classes to draw further datasets of ``NEEDS.extra`` from, where not all; known after ``setup``."""
        return {}

    def after_step(self, update: Update) -> None:
        """React to an applied optimizer update; runs without gradient."""

    def discard_step(self) -> None:
        """Forget what was collected since the last update, which was skipped."""

    def metrics(self) -> dict[str, Tensor | float]:
        """Named numbers for the log."""
        return {}

    def by_layer(self) -> Mapping[str, Mapping[str, float]]:
        """Named numbers of single layers, by the layer's name, for ``layers.csv``."""
        return {}

    def get_extra_state(self) -> dict[str, Any]:
        """Which names of ``STATE`` are trained parameters: a state dict of tensors alone cannot tell."""
        return {"parameters": [name for name in self.STATE if isinstance(getattr(self, name), nn.Parameter)]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing to do: ``_load_from_state_dict`` reads the kinds before it fills the tensors."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        extra = state_dict.get(f"{prefix}_extra_state") or {}
        parameters = extra.get("parameters", []) if isinstance(extra, dict) else []
        for name in self.STATE:
            saved = state_dict.get(f"{prefix}{name}")
            if saved is not None:
                empty = torch.empty_like(saved)
                setattr(self, name, nn.Parameter(empty) if name in parameters else empty)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Regularizer(Term):
    """A penalty added to the task loss."""

    def penalty(self, step: Step) -> Tensor | dict[str, Tensor]:
        """Unweighted scalar with a gradient, or named ones: the mean over the rows given, float32 or wider."""
        raise NotImplementedError(f"{type(self).__name__} must define penalty(step)")


class TaskLoss(Term):
    """What the network is trained for; an objective has exactly one."""

    def prepare(self, batch: Batch, draws: Draws, comm: Comm, num_classes: int) -> Batch:
        """The batch as the network is to see it, for losses that mix examples; called before each forward pass of training."""
        return batch

    def loss(self, step: Step) -> Tensor | dict[str, Tensor]:
        """Scalar with a gradient, or named ones: the mean over the rows given, float32 or wider."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(step)")


class ModelTransform(Term):
    """A change of the network itself, which keeps the names in its state dict, so that whoever reads the weights later never sees it."""

    def transform(self, net: nn.Module) -> None:
        """Change the network in place, before it is trained; changed already, it stays as it is."""
        raise NotImplementedError(f"{type(self).__name__} must define transform(net)")

    def begin(self, net: nn.Module, generator: torch.Generator) -> None:
        """Draw what the next forward pass of training uses; the generator is the same on every rank and micro-batch of a step."""
