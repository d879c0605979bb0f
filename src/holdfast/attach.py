"""A method in your own training loop, and the objects through which terms see any loop.

The project's loop uses the same :class:`StepContext`, :class:`Draws` and :class:`SourceView`, so a method cannot behave differently in
the two.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.catalog import Method, method_record, parse_methods
from holdfast.distributed import current_comm
from holdfast.errors import ConfigError, DataError
from holdfast.models.classifier import Classifier, find_head
from holdfast.models.reference import FrozenReference
from holdfast.objective import Objective, WeightedTerm
from holdfast.terms import Scope, TaskLoss, Term
from holdfast.types import Batch, Comm, Outputs, Reference, Step, Update
from holdfast.types import Draws as DrawsProtocol

__all__ = ["Attached", "Clock", "Draws", "DrawsFactory", "SourceView", "StepContext", "StepView", "attach", "build_terms"]

log = logging.getLogger("holdfast")

MethodSpec = str | Term | Sequence["str | Mapping[str, Any] | Term"]


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
        digest = hashlib.blake2b(f"{self._key}/{use}".encode(), digest_size=8).digest()
        return torch.Generator(self._device).manual_seed(int.from_bytes(digest, "little") >> 1)


DrawsFactory = Callable[[str, int], DrawsProtocol]


@dataclass
class StepView:
    """One forward pass as a term sees it; see :class:`holdfast.types.Step`."""

    batch: Batch
    outputs: Outputs
    context: StepContext

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

    @property
    def reference(self) -> Reference:
        """The frozen pretrained network."""
        if self.context.reference is None:
            raise ConfigError("a term uses step.reference but does not say so; set NEEDS = Needs(reference=True) on its class")
        return self.context.reference

    @property
    def model(self) -> nn.Module:
        """The bare network, with the parameter names of its library."""
        return self.context.classifier.net

    @property
    def head(self) -> nn.Module:
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

    def rng(self, name: str) -> DrawsProtocol:
        """The stream ``name`` of this step."""
        context = self.context
        if context.draws is not None:
            return context.draws(name, self.step)
        count = len(self.batch)
        total = count * context.micro_batches * context.comm.size
        start = (context.comm.rank * context.micro_batches + context.micro) * count
        return Draws(context.seed, name, self.step, Rows(start, count, total), device=self.logits.device, dtype=self.logits.dtype)


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

    def step(self, batch: Batch, outputs: Outputs) -> Step:
        """The view of this pass that terms receive."""
        return StepView(batch, outputs, self)  # type: ignore[return-value]  # properties serve for the protocol's attributes


@dataclass(frozen=True)
class SourceView:
    """What terms may look at before the first step; see :class:`holdfast.types.Source`."""

    reference: Reference
    num_classes: int
    total_steps: int | None
    comm: Comm
    open_split: Callable[[str], Iterator[Batch]] = field(repr=False)

    def batches(self, split: str = "train") -> Iterator[Batch]:
        """This rank's share of a split, un-augmented."""
        return self.open_split(split)


def build_terms(methods: Sequence[Mapping[str, Any]]) -> list[WeightedTerm]:
    """Objects from a resolved method list (``[{"name": "adarand", "weight": 1.0, …}, …]``).

    Raises:
        ConfigError: A name or option is unknown.
    """
    return [_build_term(method_record(str(method["name"])), method) for method in methods]


def _build_term(record: Method, options: Mapping[str, Any]) -> WeightedTerm:
    weights = {option.name: float(options.get(option.name, option.default)) for option in record.weights}
    arguments = {option.name: options.get(option.name, option.default) for option in record.options}
    return WeightedTerm(record.term_name, record.load()(**arguments), weights)


class Attached:
    """A method at work in a loop of your own; made by :func:`attach`.

    ``module`` is the part to wrap in DistributedDataParallel: ``terms.module = DDP(terms.module)``.
    """

    def __init__(self, objective: Objective, context: StepContext) -> None:
        self.objective = objective
        self.module: nn.Module = objective
        self._context = context
        self._values: dict[str, Tensor] = {}

    def loss(self, inputs: Any, labels: Tensor, index: Tensor | None = None) -> Tensor:
        """The total loss of a batch; call ``backward`` on it.

        With gradient accumulation call it once for each micro-batch: the value is already divided by their number.

        Args:
            inputs: What your model takes.
            labels: Classes (B,).
            index: A fixed number for each example (B,), for methods that keep state by example.

        Returns:
            Scalar.

        Raises:
            ConfigError: More micro-batches than ``accumulate`` came before ``after_step``.
        """
        context = self._context
        if context.micro >= context.micro_batches:
            raise ConfigError(
                f"terms.loss was called more than {context.micro_batches} time(s) without terms.after_step(); "
                "pass attach(..., accumulate=N) for N micro-batches"
            )
        if index is None:
            index = torch.full_like(labels, -1)
        output = self.module(Batch(inputs, labels, index), context)
        context.micro += 1
        self._values = output.values
        return output.total

    def after_step(self) -> None:
        """Tell the terms that the optimizer has stepped."""
        context = self._context
        clock = context.clock
        update = Update(context.classifier.net, context.comm, clock.step, clock.epoch, clock.step_in_epoch, clock.total_steps)
        self.objective.after_step(update)
        context.clock = Clock(clock.step + 1, clock.epoch, clock.step_in_epoch + 1, clock.total_steps)
        context.micro = 0

    def discard_step(self) -> None:
        """Tell the terms that the optimizer skipped this update."""
        self.objective.discard_step()
        self._context.micro = 0

    def start_epoch(self, epoch: int) -> None:
        """Set the epoch that terms see; only needed for methods that depend on it."""
        clock = self._context.clock
        self._context.clock = Clock(clock.step, epoch, 0, clock.total_steps)

    @property
    def values(self) -> dict[str, float]:
        """Unweighted value of each term in the last call of :meth:`loss`."""
        return {name: float(value) for name, value in self._values.items()}

    def metrics(self) -> dict[str, float]:
        """Further numbers the terms report."""
        return {name: float(value) for name, value in self.objective.metrics().items()}

    def state_dict(self) -> dict[str, Any]:
        """State of the terms and the position; save it beside your model and optimizer."""
        clock = self._context.clock
        return {"terms": self.objective.terms.state_dict(), "step": clock.step, "epoch": clock.epoch, "step_in_epoch": clock.step_in_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.objective.terms.load_state_dict(state["terms"])
        self.objective.terms.to(next(self.objective.model.parameters()).device)
        total_steps = self._context.clock.total_steps
        self._context.clock = Clock(state["step"], state["epoch"], state["step_in_epoch"], total_steps)


def attach(
    model: nn.Module,
    method: MethodSpec,
    batches: Iterable[tuple[Any, Tensor]] | None = None,
    *,
    num_classes: int,
    head: str | None = None,
    pretrained: nn.Module | None = None,
    total_steps: int | None = None,
    accumulate: int = 1,
    seed: int = 0,
    draws: DrawsFactory | None = None,
) -> Attached:
    """Add a method to a plain training loop.

    ::

        terms = attach(model, "adarand", batches, num_classes=K, total_steps=N)
        loss = terms.loss(inputs, labels); loss.backward(); optimizer.step(); terms.after_step()

    Args:
        model: The bare network with its new head, at its pretrained weights, on its device.
        method: A name, several joined by ``+``, a list of ``{"name": …, option: …}``, or terms of your own.
        batches: Un-augmented training batches (inputs, labels) that can be iterated again, such as a DataLoader; this rank's share.
            Needed by methods with statistics of the pretrained features.
        num_classes: K.
        head: Name of the final Linear, where it is not found by itself.
        pretrained: The network to hold on to, where that is not ``model`` as it is now.
        total_steps: Optimizer steps of the whole training, for methods with a schedule.
        accumulate: Micro-batches for each optimizer step.
        seed: Seed of the methods' noise.
        draws: Where noise comes from, by name and step, instead of seeded streams; for tests and replays.

    Returns:
        The terms at work, with ``loss``, ``after_step``, ``state_dict``.

    Raises:
        ConfigError: A name or option is unknown, or something a method needs is missing.
        ModelError: The head cannot be found, or its input is no feature vector.
    """
    terms = _terms_of(method)
    head_name = find_head(model, head)
    # Terms that are set up once need the pretrained weights now; the copy stays only where a term uses it at every step.
    reference = FrozenReference(copy.deepcopy(pretrained if pretrained is not None else model), head_name, source_head=False)
    classifier = Classifier(model, head_name)
    objective = Objective(classifier, terms)
    comm = current_comm()
    device = next(model.parameters()).device
    first = next(_open(batches, "train", device), None) if batches is not None else None
    if first is not None and isinstance(first.inputs, Tensor):
        classifier.verify(first.inputs)
    source = SourceView(reference, num_classes, total_steps, comm, lambda split: _open(batches, split, device))
    for weighted in terms:
        weighted.term.setup(source)
    objective.terms.to(device)
    kept = reference if any(weighted.term.NEEDS.reference for weighted in terms) else None
    context = StepContext(classifier, kept, comm, seed, Clock(total_steps=total_steps), micro_batches=accumulate, draws=draws)
    warn_about_batch_terms(terms, accumulate)
    return Attached(objective, context)


def warn_about_batch_terms(terms: Sequence[WeightedTerm], accumulate: int) -> None:
    """Say once that a term of the joint batch sees only a micro-batch at a time."""
    for weighted in terms:
        scope = weighted.term.SCOPE
        scopes = scope.values() if isinstance(scope, Mapping) else (scope,)
        if accumulate > 1 and Scope.BATCH in scopes:
            log.warning(
                "method %r depends on the whole batch, but with accumulation it sees 1/%d of it at a time.", weighted.name, accumulate
            )


def _terms_of(method: MethodSpec) -> list[WeightedTerm]:
    entries = [method] if isinstance(method, Term) else method
    own = [entry for entry in entries if isinstance(entry, Term)] if not isinstance(entries, str) else []
    named = entries if isinstance(entries, str) else [entry for entry in entries if not isinstance(entry, Term)]
    terms = [WeightedTerm(type(term).__name__, term) for term in own]
    losses = [term for term in own if isinstance(term, TaskLoss)]
    resolved = parse_methods(named, task_loss=not losses)
    return build_terms(resolved) + terms


def _open(batches: Iterable[tuple[Any, Tensor]] | None, split: str, device: torch.device) -> Iterator[Batch]:
    if batches is None or split != "train":
        raise DataError(
            f"attach: a method asks for batches of the {split} split; "
            "pass attach(model, method, batches, ...) with un-augmented (inputs, labels)"
        )
    if iter(batches) is batches:
        raise DataError("attach: batches must be iterable more than once; pass a DataLoader or a list instead of a generator")
    for inputs, labels in batches:
        yield Batch(_to(inputs, device), labels.to(device), torch.full_like(labels, -1, device=device))


def _to(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, Mapping):
        return {key: _to(value, device) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_to(value, device) for value in tree)
    return tree
