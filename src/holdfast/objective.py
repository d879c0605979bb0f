"""The one module that is trained and that DDP wraps: network, task loss and weighted penalties in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.errors import ConfigError, ShapeError
from holdfast.terms import ModelTransform, Regularizer, TaskLoss, Term
from holdfast.types import Batch, Extra, HeadForm, Outputs, Step, Update

__all__ = ["Context", "Objective", "ObjectiveOutput", "WeightedTerm", "widen"]


@dataclass(frozen=True)
class WeightedTerm:
    """A term with its name in the log and the multipliers of what it returns.

    ``weights["weight"]`` multiplies a bare scalar or the first key of a dict, ``weights["k_weight"]`` every further key ``k``.
    Without ``weights``, all count as 1.
    """

    name: str
    term: Term
    weights: Mapping[str, float] | None = None

    def named(self, value: Tensor | Mapping[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each returned scalar, by its name in the log."""
        if isinstance(value, Tensor):
            return {self.name: (self._weight("weight"), self._scalar(self.name, value))}
        named = {}
        for number, (key, scalar) in enumerate(value.items()):
            name = f"{self.name}/{key}"
            named[name] = (self._weight("weight" if number == 0 else f"{key}_weight"), self._scalar(name, scalar))
        return named

    def _weight(self, option: str) -> float:
        if self.weights is None or option == "weight":
            return (self.weights or {}).get("weight", 1.0)
        if option not in self.weights:
            raise ConfigError(f"method {self.name!r} returns a term that needs the option {option!r}; pass register(..., {option}=...)")
        return self.weights[option]

    @staticmethod
    def _scalar(name: str, value: Tensor) -> Tensor:
        if value.ndim:
            raise ShapeError(f"the term {name!r} must return a scalar, got shape {tuple(value.shape)}; reduce it, for example with .mean()")
        return value


class Context(Protocol):
    """What the training loop knows about a forward pass, before its outputs exist."""

    micro_batches: int

    def begin(self, name: str, transform: ModelTransform) -> None:
        """Let a model transform draw what this pass uses."""

    def prepare(self, name: str, loss: TaskLoss, batch: Batch) -> Batch:
        """Let the task loss change what the network sees."""

    def step(self, batch: Batch, outputs: Outputs, extra: Mapping[str, Extra]) -> Step:
        """The view of this pass that terms receive."""


class ObjectiveOutput(NamedTuple):
    """Result of one forward pass: the total to differentiate; unweighted values by term and logits of the classes, without gradient."""

    total: Tensor
    values: dict[str, Tensor]
    logits: Tensor


class Objective(nn.Module):
    """Network, one task loss and any number of regularizers.

    Args:
        model: The network in its uniform view: inputs to :class:`~holdfast.types.Outputs`.
        terms: The terms in the order of the configuration, exactly one of them a task loss.

    Raises:
        ConfigError: There is no task loss, or more than one.
    """

    def __init__(self, model: nn.Module, terms: Sequence[WeightedTerm]) -> None:
        super().__init__()
        losses = [weighted.name for weighted in terms if isinstance(weighted.term, TaskLoss)]
        if len(losses) != 1:
            given = " and ".join(repr(name) for name in losses) or "none"
            raise ConfigError(f"method: an objective has exactly one task loss, got {given}")
        self.model = model
        self.terms = nn.ModuleList(weighted.term for weighted in terms)
        self.configured = tuple(terms)
        # The forward pass computes the task loss first; everything else follows the configuration.
        self.weighted = tuple(sorted(terms, key=lambda weighted: not isinstance(weighted.term, TaskLoss)))
        # Outputs behind those of the classes, which a task loss may ask for and nobody else sees.
        self._extra_outputs = max((weighted.term.NEEDS.head or HeadForm()).extra for weighted in terms)
        self.multipliers: dict[str, float] = {}  # of each returned scalar, by its name in the log; known after a forward pass

    def forward(self, batch: Batch, context: Context) -> ObjectiveOutput:
        """Run the network and all terms; the total is divided by the number of micro-batches of the update."""
        for weighted in self.configured:
            if isinstance(weighted.term, ModelTransform):
                context.begin(weighted.name, weighted.term)
        weighted = self.weighted[0]
        if isinstance(weighted.term, TaskLoss) and type(weighted.term).prepare is not TaskLoss.prepare:
            batch = context.prepare(weighted.name, weighted.term, batch)
        parts = (batch, *batch.extra.values())
        joint: Outputs = self.model(_joined([part.inputs for part in parts]))
        # Losses and penalties want float32 at least, whatever the network ran in.
        outputs, *further = _split(_widened(joint), [len(part) for part in parts])
        extra = {name: Extra(part.labels, *rows) for (name, part), rows in zip(batch.extra.items(), further, strict=True)}
        step = context.step(batch, outputs, extra)
        with torch.autocast(outputs.logits.device.type, enabled=False):
            named: dict[str, tuple[float, Tensor]] = {}
            for weighted in self.weighted:
                named |= weighted.named(self._value(weighted, step))
            self.multipliers = {name: weight for name, (weight, _) in named.items()}
            total = torch.stack([weight * value for weight, value in named.values()]).sum() if len(named) > 1 else _only(named)
        total = total / context.micro_batches if context.micro_batches > 1 else total
        logits = outputs.logits.detach()[:, : outputs.logits.shape[1] - self._extra_outputs]
        return ObjectiveOutput(total, {name: value.detach() for name, (_, value) in named.items()}, logits)

    @staticmethod
    def _value(weighted: WeightedTerm, step: Step) -> Tensor | Mapping[str, Tensor]:
        term = weighted.term
        if term.NEEDS.hard_labels and step.targets is not None:
            raise ConfigError(
                f"method {weighted.name!r} needs hard labels, but this batch has soft targets; drop the option that softens them"
            )
        if isinstance(term, TaskLoss) and step.weights is not None and not term.NEEDS.weights:
            raise ConfigError(
                f"method {weighted.name!r} takes no weights of examples, but this batch has some; leave them out, or use a task loss with "
                "NEEDS = Needs(weights=True)"
            )
        missing = [layer for layer in term.NEEDS.layers if layer not in step.features]
        if missing:
            raise ConfigError(f"method {weighted.name!r} needs the layer {missing[0]!r}; captured are {', '.join(step.features)}")
        return term.loss(step) if isinstance(term, TaskLoss) else term.penalty(step) if isinstance(term, Regularizer) else {}

    def after_step(self, update: Update) -> None:
        """Let every term react to an applied update, in the order of the configuration."""
        with torch.no_grad():
            for weighted in self.configured:
                weighted.term.after_step(update)

    def discard_step(self) -> None:
        """Let every term forget what belongs to a skipped update."""
        for weighted in self.configured:
            weighted.term.discard_step()

    def metrics(self) -> dict[str, Tensor | float]:
        """Numbers of all terms for the log, prefixed by the term's name."""
        return {f"{weighted.name}/{key}": value for weighted in self.weighted for key, value in weighted.term.metrics().items()}


def _joined(trees: Sequence[Any]) -> Any:
    """Inputs of several batches as those of one: tensors are concatenated along their rows."""
    first = trees[0]
    if len(trees) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: _joined([tree[key] for tree in trees]) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_joined(parts) for parts in zip(*trees, strict=True))
    if first.ndim == 2 and len({tree.shape[1] for tree in trees}) > 1:  # tokens of texts, whose mask is 0 as well behind the shorter ones
        longest = max(tree.shape[1] for tree in trees)
        trees = [F.pad(tree, (0, longest - tree.shape[1])) for tree in trees]
    return torch.cat(list(trees))


def _split(outputs: Outputs, sizes: Sequence[int]) -> list[Outputs]:
    if len(sizes) == 1:
        return [outputs]
    logits = outputs.logits.split(list(sizes))
    features = {name: value.split(list(sizes)) for name, value in outputs.features.items()}
    return [Outputs(rows, {name: parts[number] for name, parts in features.items()}) for number, rows in enumerate(logits)]


def _widened(outputs: Outputs) -> Outputs:
    return Outputs(widen(outputs.logits), {name: widen(features) for name, features in outputs.features.items()})


def widen(tensor: Tensor) -> Tensor:
    """A half-precision tensor in float32; others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _only(named: Mapping[str, tuple[float, Tensor]]) -> Tensor:
    ((weight, value),) = named.values()
    return weight * value if weight != 1.0 else value
