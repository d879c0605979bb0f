"""How terms see a training run: one step of it, and what there is before the first.

The project's loop and :func:`holdfast.attach` both use these, so a method cannot behave differently in the two.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.models.target_classifier import SGD, train_classifier
from holdfast.objective import widen
from holdfast.terms import ModelTransform, TaskLoss
from holdfast.types import Batch, Comm, Extra, Outputs, Reference, Step
from holdfast.types import Draws as DrawsProtocol

__all__ = ["Clock", "Draws", "DrawsFactory", "Rows", "SourceView", "StepContext", "StepView"]


@dataclass(frozen=True)
class Clock:
    """Where a run stands: 0-based counters of optimizer steps and epochs."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    total_steps: int | None = None


@dataclass(frozen=True)
class Rows:
    """Which rows of the global batch a micro-batch holds: ``count`` from ``start``, of ``total``."""

    start: int
    count: int
    total: int


class Draws:
    """Random numbers keyed by (seed, name, step): nothing to save, and ranks, accumulation and resuming agree.

    Every rank draws for the whole global batch and takes its own rows.

    Example:
        >>> whole = Draws(0, "noise", 3, Rows(0, 4, 4)).normal(2)
        >>> half = Draws(0, "noise", 3, Rows(2, 2, 4)).normal(2)
        >>> bool((whole[2:] == half).all())
        True
    """

    def __init__(
        self, seed: int, name: str, step: int, rows: Rows, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._key = f"{seed}/{name}/{step}"
        self._rows = rows
        self._device = torch.device(device)
        self._dtype = dtype

    def normal(self, *row_shape: int) -> Tensor:
        """Standard normal draws (B, *row_shape)."""
        draws = torch.randn(self._rows.total, *row_shape, generator=self._generator("rows"), device=self._device, dtype=self._dtype)
        return self._own(draws)

    def uniform(self, *row_shape: int) -> Tensor:
        """Draws (B, *row_shape) uniform on [0, 1)."""
        draws = torch.rand(self._rows.total, *row_shape, generator=self._generator("rows"), device=self._device, dtype=self._dtype)
        return self._own(draws)

    def shared(self) -> torch.Generator:
        """A generator in the same state on every rank and micro-batch."""
        return self._generator("shared")

    def _own(self, draws: Tensor) -> Tensor:
        return draws[self._rows.start : self._rows.start + self._rows.count]

    def _generator(self, use: str) -> torch.Generator:
        return _keyed_generator(f"{self._key}/{use}", self._device)


def _keyed_generator(key: str, device: torch.device) -> torch.Generator:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


DrawsFactory = Callable[[str, int], DrawsProtocol]


@dataclass
class StepView:
    """One forward pass as a term sees it; see :class:`holdfast.types.Step`."""

    batch: Batch
    outputs: Outputs
    context: StepContext
    extra: Mapping[str, Extra] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The frozen network runs as the trained one does, whatever the precision of the terms.
        kind = self.outputs.logits.device.type
        self._autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    @property
    def inputs(self) -> Any:
        """Inputs of the batch."""
        return self.batch.inputs

    @property
    def labels(self) -> Tensor:
        """Classes (B,)."""
        return self.batch.labels

    @property
    def targets(self) -> Tensor | None:
        """Soft labels (B, K), where there are some."""
        return self.batch.targets

    @property
    def weights(self) -> Tensor | None:
        """Weight of each example (B,) in the task loss, where they differ."""
        return self.batch.weights

    @property
    def views(self) -> tuple[Any, ...]:
        """Inputs of further augmented views."""
        return self.batch.views

    @property
    def index(self) -> Tensor:
        """Rank of each example's id (B,)."""
        return self.batch.index

    @property
    def logits(self) -> Tensor:
        """Logits (B, K), float32 or wider."""
        return self.outputs.logits

    @property
    def features(self) -> Mapping[str, Tensor]:
        """Captured features by layer, float32 or wider."""
        return self.outputs.features

    @functools.cached_property
    def reference(self) -> Reference:
        """The frozen pretrained network, which looks at this batch once for all terms."""
        if self.context.reference is None:
            raise ConfigError("a term uses step.reference but does not say so; set NEEDS = Needs(reference=True) on its class")
        return _ReferenceOfBatch(self.context.reference, self.context.reference_layers, self._precision)

    @property
    def model(self) -> nn.Module:
        """The bare network, with the parameter names of its library."""
        return self.context.classifier.net

    @property
    def head(self) -> nn.Linear:
        """The final linear layer."""
        return self.context.classifier.head

    @property
    def comm(self) -> Comm:
        """Communication between ranks."""
        return self.context.comm

    @property
    def collect(self) -> bool:
        """Whether per-step sums take this pass in."""
        return self.context.collect

    @property
    def step(self) -> int:
        """0-based optimizer step."""
        return self.context.clock.step

    @property
    def epoch(self) -> int:
        """0-based epoch."""
        return self.context.clock.epoch

    @property
    def step_in_epoch(self) -> int:
        """0-based step in this epoch."""
        return self.context.clock.step_in_epoch

    @property
    def total_steps(self) -> int | None:
        """Steps of the run, where known."""
        return self.context.clock.total_steps

    @property
    def batch_size(self) -> int:
        """Rows of the whole optimizer step, over all ranks and micro-batches."""
        return len(self.batch) * self.context.micro_batches * self.context.comm.size

    def rng(self, name: str) -> DrawsProtocol:
        """The stream ``name`` of this step."""
        context, count = self.context, len(self.batch)
        start = (context.comm.rank * context.micro_batches + context.micro) * count
        return context.rng(name, Rows(start, count, self.batch_size), device=self.logits.device, dtype=self.logits.dtype)

    def forward(self, inputs: Any, tensors: Mapping[str, Tensor]) -> Outputs:
        """Run the network with other values in place of its own; see :class:`holdfast.types.Step`."""
        with self._precision():
            outputs = self.context.classifier.substituted(inputs, tensors)
        return Outputs(widen(outputs.logits), {name: widen(features) for name, features in outputs.features.items()})

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.outputs.logits.device.type, dtype=self._autocast, enabled=self._autocast is not None)


class _ReferenceOfBatch:
    """The frozen network for the terms of one step: one forward pass for all of them, in the precision of the trained network."""

    def __init__(self, reference: Reference, layers: Sequence[str], precision: Callable[[], AbstractContextManager[Any]]) -> None:
        self._reference = reference
        self._layers = layers
        self._precision = precision
        self._inputs: Any = None
        self._known: dict[str, Tensor] = {}

    @property
    def fingerprint(self) -> str:
        return self._reference.fingerprint

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return self._reference.weights

    @property
    def backbone(self) -> Mapping[str, Tensor]:
        return self._reference.backbone

    def source_head(self) -> nn.Linear:
        return self._reference.source_head()

    def features(self, inputs: Any, layers: Sequence[str] = ("pooled",)) -> Mapping[str, Tensor]:
        if inputs is not self._inputs or not self._known.keys() >= set(layers):
            with self._precision():
                known = self._reference.features(inputs, tuple(dict.fromkeys((*self._layers, *layers))))
            self._inputs, self._known = inputs, {name: widen(value) for name, value in known.items()}
        return self._known

    def logits(self, inputs: Any) -> Tensor:
        with self._precision():
            return widen(self._reference.logits(inputs))


@dataclass
class StepContext:
    """What a loop knows before a forward pass; one micro-batch of one optimizer step."""

    classifier: Classifier
    reference: Reference | None
    comm: Comm
    seed: int
    clock: Clock
    micro: int = 0
    micro_batches: int = 1
    collect: bool = True
    draws: DrawsFactory | None = None
    reference_layers: Sequence[str] = ()

    def rng(self, name: str, rows: Rows, *, device: torch.device, dtype: torch.dtype) -> DrawsProtocol:
        """The stream ``name`` of this step."""
        if self.draws is not None:
            return self.draws(name, self.clock.step)
        return Draws(self.seed, name, self.clock.step, rows, device=device, dtype=dtype)

    def begin(self, name: str, transform: ModelTransform) -> None:
        """Let a model transform draw what the coming pass uses."""
        parameter = next(self.classifier.parameters())
        draws = self.rng(name, Rows(0, 0, 0), device=parameter.device, dtype=parameter.dtype)
        transform.begin(self.classifier.net, draws.shared())

    def prepare(self, name: str, loss: TaskLoss, batch: Batch) -> Batch:
        """Let the task loss change what the network sees, with draws made on the CPU: they decide what is copied where."""
        head = self.classifier.head
        draws = self.rng(name, Rows(0, 0, 0), device=torch.device("cpu"), dtype=head.weight.dtype)
        return loss.prepare(batch, draws, self.comm, head.out_features)

    def step(self, batch: Batch, outputs: Outputs, extra: Mapping[str, Extra]) -> Step:
        """The view of this pass that terms receive."""
        return StepView(batch, outputs, self, extra)  # type: ignore[return-value]  # properties serve for the protocol's attributes


@dataclass(frozen=True)
class SourceView:
    """What terms may look at before the first step; see :class:`holdfast.types.Source`.

    ``open_epoch`` gives the shuffled batches of :meth:`shuffled` by batch size and epoch; ``sgd`` is that of the run;
    ``all_index`` numbers the training examples.
    """

    reference: FrozenReference
    num_classes: int
    total_steps: int | None
    comm: Comm
    open_split: Callable[[str], Iterator[Batch]] = field(repr=False)
    has_split: Callable[[str], bool] = field(repr=False)
    seed: int = 0
    open_epoch: Callable[[int, int], Iterator[Batch]] | None = field(default=None, repr=False)
    sgd: SGD = field(default_factory=SGD)
    all_index: Callable[[], Tensor] | None = field(default=None, repr=False)

    def index(self) -> Tensor:
        """Ranks of the ids (N,) of all training examples of all ranks, sorted."""
        if self.all_index is None:
            raise ConfigError("a method keeps state for each example, but this source does not number its examples")
        return self.all_index()

    def has(self, split: str) -> bool:
        """Whether there is such a split."""
        return self.has_split(split)

    def batches(self, split: str = "train") -> Iterator[Batch]:
        """This rank's share of a split, un-augmented."""
        return self.open_split(split)

    def generator(self, name: str) -> torch.Generator:
        """Random numbers on the CPU, the same on every rank, for what a term draws once."""
        return _keyed_generator(f"{self.seed}/{name}/setup", torch.device("cpu"))

    def shuffled(self, batch_size: int, epoch: int) -> Iterator[Batch]:
        """This rank's parts of un-augmented training batches, in another order each epoch."""
        return self.batches() if self.open_epoch is None else self.open_epoch(batch_size, epoch)

    def fit_classifier(self, *, epochs: int, batch_size: int, backbone: bool = True) -> nn.Module:
        """The pretrained network trained on the target for some epochs; see :class:`holdfast.types.Source`."""
        classifier = self.reference.trainable_copy()
        classifier.reset_head(self.num_classes, seed=self.seed)
        train_classifier(
            classifier,
            functools.partial(self.shuffled, batch_size),
            self.comm,
            epochs=epochs,
            sgd=self.sgd,
            backbone=backbone,
            seed=self.seed,
        )
        return classifier.net
