"""Bi-Tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.losses.bi_tuning_contrast import enqueue_by_class, queue_contrast
from holdfast.losses.functional import cross_entropy
from holdfast.terms import Needs, Scope, TaskLoss
from holdfast.types import Source, Step, Update

__all__ = ["BiTuning"]


@dataclass
class _Pending:
    """State that a forward pass has moved and an applied update makes valid."""

    queue_features: Tensor
    queue_projections: Tensor
    pointer: Tensor
    buffers: dict[str, Tensor]  # of the key encoder


class BiTuning(TaskLoss):
    """Cross-entropy, and contrast with keys of a slowly following copy of the network: of projections, and of features with the head.

    Zhong et al., 2021. The key encoder sees a second augmented view of each batch, in the mode of the trained network; its parameters
    follow with momentum, its BatchNorm statistics are those of its own batches. As in Transfer-Learning-Library (commit c4aa59e) the
    projections are compared with the queue before the batch enters it, the features with the queue after it, and the head is held
    constant in the contrast.

    Args:
        queue_length: Keys kept of each class (Q).
        momentum: m of the key encoder.
        temperature: Divisor of all similarities (T).
        width: Size of the projections.
    """

    NEEDS = Needs(layers=("pooled",), hard_labels=True, views=1)
    SCOPE = Scope.BATCH
    STATE = (
        *("projector_weight", "projector_bias", "key_projector_weight", "key_projector_bias"),
        *("key_state", "key_counters", "queue_features", "queue_projections", "pointer"),
    )

    projector_weight: nn.Parameter  # (P, D)
    projector_bias: nn.Parameter  # (P,)
    key_projector_weight: Tensor
    key_projector_bias: Tensor
    key_state: Tensor  # parameters and buffers of the key encoder in one row, in the order of its state dict
    key_counters: Tensor  # those of its buffers that are whole numbers
    queue_features: Tensor  # (D + 1, K, Q)
    queue_projections: Tensor  # (P, K, Q)
    pointer: Tensor  # (K,)

    def __init__(self, *, queue_length: int = 40, momentum: float = 0.999, temperature: float = 0.07, width: int = 128) -> None:
        super().__init__()
        self.queue_length = queue_length
        self.momentum = momentum
        self.temperature = temperature
        self.width = width
        self._head_names: frozenset[str] = frozenset()
        self._pending: _Pending | None = None

    def setup(self, source: Source) -> None:
        """Draw the projector, and queues of random unit vectors."""
        pooled = source.reference.features(next(source.batches()).inputs)["pooled"]
        generator, width = source.generator("bi-tuning"), pooled.shape[1]

        def uniform(*shape: int) -> Tensor:
            return ((2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(width)).to(pooled)

        def queue(rows: int) -> Tensor:
            drawn = torch.randn(rows, source.num_classes, self.queue_length, generator=generator, dtype=torch.float64)
            return F.normalize(drawn, dim=0).to(pooled)

        self.projector_weight, self.projector_bias = nn.Parameter(uniform(self.width, width)), nn.Parameter(uniform(self.width))
        self.key_projector_weight, self.key_projector_bias = self.projector_weight.detach().clone(), self.projector_bias.detach().clone()
        self.queue_features, self.queue_projections = queue(width + 1), queue(self.width)
        self.pointer = torch.zeros(source.num_classes, dtype=torch.int64, device=pooled.device)
        start = source.reference.backbone.values()
        self.key_state = torch.cat([value.flatten().to(pooled.dtype) for value in start if value.is_floating_point()])
        self.key_counters = torch.cat([self.pointer[:0], *(value.flatten() for value in start if not value.is_floating_point())])

    def loss(self, step: Step) -> dict[str, Tensor]:
        """``cross-entropy`` of the logits, and ``contrastive``: the sum of both contrasts."""
        features, labels = step.features["pooled"], step.labels
        projections = F.normalize(F.linear(features, self.projector_weight, self.projector_bias), dim=1)
        directions = _direction(features)
        with torch.no_grad():
            state, key_features, key_projections = self._keys(step)
            own_weights = _head_directions(step.head)[labels]
            gathered = [step.comm.gather(rows) for rows in (key_features, key_projections, labels)]
            entered = self._entered(state, *gathered)
        by_projection = queue_contrast(
            projections, (projections * key_projections).sum(dim=1), state.queue_projections, labels, temperature=self.temperature
        )
        by_class = queue_contrast(
            own_weights, (directions * own_weights).sum(dim=1), entered.queue_features, labels, temperature=self.temperature
        )
        if step.collect:
            self._pending = entered
        return {"cross-entropy": cross_entropy(step.logits, labels).mean(), "contrastive": (by_projection + by_class).mean()}

    def after_step(self, update: Update) -> None:
        """Let the key encoder follow, and the batch's keys stay in the queues."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        self.queue_features, self.queue_projections, self.pointer = pending.queue_features, pending.queue_projections, pending.pointer
        parameters = dict(update.model.named_parameters())
        for name, key in self._key_tensors(_state_without_head(update.model, self._head_names)).items():
            if name in parameters:
                key.lerp_(parameters[name].detach(), 1 - self.momentum)
            else:
                key.copy_(pending.buffers[name])
        self.key_projector_weight.lerp_(self.projector_weight.detach(), 1 - self.momentum)
        self.key_projector_bias.lerp_(self.projector_bias.detach(), 1 - self.momentum)

    def discard_step(self) -> None:
        """Forget the keys of a skipped update."""
        self._pending = None

    def _keys(self, step: Step) -> tuple[_Pending, Tensor, Tensor]:
        """State before this batch, its buffers moved by it, and the keys' features (B, D + 1) and projections (B, P)."""
        self._head_names = _names_of(step.model, step.head)
        key = self._key_tensors(_state_without_head(step.model, self._head_names))
        parameters = {name for name, _ in step.model.named_parameters()}
        moved = {} if self._pending is None else self._pending.buffers
        buffers = {name: moved.get(name, value).clone() for name, value in key.items() if name not in parameters}
        features = step.forward(step.views[0], key | buffers).features["pooled"]
        before = self._pending or _Pending(self.queue_features, self.queue_projections, self.pointer, {})
        projections = F.normalize(F.linear(features, self.key_projector_weight, self.key_projector_bias), dim=1)
        return replace(before, buffers=buffers), _direction(features), projections

    def _key_tensors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Views into the rows that are stored, by the names of the network's state without its head."""
        numbers = {name: value for name, value in state.items() if value.is_floating_point()}
        counters = {name: value for name, value in state.items() if not value.is_floating_point()}
        return dict(_views(self.key_state, numbers)) | dict(_views(self.key_counters, counters))

    def _entered(self, state: _Pending, features: Tensor, projections: Tensor, labels: Tensor) -> _Pending:
        queue_features, pointer = enqueue_by_class(state.queue_features, state.pointer, features, labels)
        queue_projections, _ = enqueue_by_class(state.queue_projections, state.pointer, projections, labels)
        return _Pending(queue_features, queue_projections, pointer, state.buffers)


def _direction(features: Tensor) -> Tensor:
    """``normalize([h; 1])``: rows (B, D + 1)."""
    return F.normalize(F.pad(features, (0, 1), value=1.0), dim=1)


def _head_directions(head: nn.Linear) -> Tensor:
    """``normalize([W; b])``: rows (K, D + 1)."""
    bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias
    return F.normalize(torch.cat([head.weight, bias[:, None]], dim=1), dim=1)


def _names_of(model: nn.Module, head: nn.Module) -> frozenset[str]:
    own = {id(parameter) for parameter in head.parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in own)


def _state_without_head(model: nn.Module, head: frozenset[str]) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name not in head}


def _views(row: Tensor, like: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    parts = row.split([value.numel() for value in like.values()])
    return ((name, part.view(value.shape)) for (name, value), part in zip(like.items(), parts, strict=True))
