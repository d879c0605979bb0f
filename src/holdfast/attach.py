"""A method in your own training loop, and what every loop does with methods before the first step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.catalog import Method, method_record, parse_methods
from holdfast.distributed import current_comm
from holdfast.errors import ConfigError, DataError, HoldfastError
from holdfast.models.classifier import Classifier, find_head
from holdfast.models.reference import FrozenReference
from holdfast.objective import Objective, WeightedTerm
from holdfast.step import Clock, DrawsFactory, SourceView, StepContext
from holdfast.terms import ModelTransform, Scope, TaskLoss, Term
from holdfast.types import Batch, Comm, HeadForm, Update

__all__ = ["Attached", "attach", "build_terms", "check_classes", "head_form", "prepare_network", "warn_about_batch_terms"]

log = logging.getLogger("holdfast")

MethodSpec = str | Term | Sequence["str | Mapping[str, Any] | Term"]


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

    def loss(
        self,
        inputs: Any,
        labels: Tensor,
        index: Tensor | None = None,
        *,
        weights: Tensor | None = None,
        views: Sequence[Any] = (),
        extra: Mapping[str, tuple[Any, Tensor]] | None = None,
    ) -> Tensor:
        """The total loss of a batch; call ``backward`` on it.

        With gradient accumulation call it once for each micro-batch: the value is already divided by their number.

        Args:
            inputs: What your model takes.
            labels: Classes (B,).
            index: A fixed number for each example (B,), for methods that keep state by example: its place among all N training examples,
                from 0 to N - 1.
            weights: Weight of each example (B,) in the task loss.
            views: Further augmented views of ``inputs``, for methods that compare views.
            extra: Inputs and labels of other data by name, as ``{"source": (inputs, labels)}``, for methods that train on it too.

        Returns:
            Scalar.

        Raises:
            ConfigError: More micro-batches than ``accumulate`` came before ``after_step``, or something a method needs is missing.
        """
        context = self._context
        if context.micro >= context.micro_batches:
            raise ConfigError(
                f"terms.loss was called more than {context.micro_batches} time(s) without terms.after_step(); "
                "pass attach(..., accumulate=N) for N micro-batches"
            )
        self._check_index(index)
        index = torch.full_like(labels, -1) if index is None else index.to(labels.device)
        further = {name: Batch(rows, classes, torch.full_like(classes, -1)) for name, (rows, classes) in (extra or {}).items()}
        batch = Batch(inputs, labels, index, weights=weights, views=tuple(views), extra=further)
        self._check(batch)
        output = self.module(batch, context)
        context.micro += 1
        self._values = output.values
        return output.total

    def _check_index(self, index: Tensor | None) -> None:
        wanting = [weighted.name for weighted in self.objective.configured if weighted.term.NEEDS.index]
        if wanting and index is None:
            raise ConfigError(
                f"method {wanting[0]!r} keeps state for each example; pass terms.loss(inputs, labels, index) with each example's place "
                "among all training examples, from 0 to N - 1"
            )

    def _check(self, batch: Batch) -> None:
        for weighted in self.objective.configured:
            needs = weighted.term.NEEDS
            if len(batch.views) < needs.views:
                raise ConfigError(
                    f"method {weighted.name!r} needs {needs.views} further view(s) of each batch; pass terms.loss(..., views=[...])"
                )
            for name in needs.extra:
                if name not in batch.extra:
                    raise ConfigError(
                        f"method {weighted.name!r} needs rows of the {name} data with each batch; "
                        f"pass terms.loss(..., extra={{{name!r}: (inputs, labels)}})"
                    )

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
    val: Iterable[tuple[Any, Tensor]] | None = None,
    source: Iterable[tuple[Any, Tensor]] | None = None,
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
        pretrained: The network to hold on to, where that is not ``model`` as it is now; with the head of its pretraining, for methods
            that use it.
        val: As ``batches``, of the validation split, for methods that look at it before the first step.
        source: As ``batches``, of the data of pretraining, for methods that train on it too.
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
    if pretrained is None:
        _need_no_source_head(terms)
    head_name = find_head(model, head)
    # Terms that are set up once need the pretrained weights now; the copy stays only where a term uses it at every step.
    if pretrained is None:
        reference = FrozenReference(copy.deepcopy(model), head_name, source_head=False)
    else:
        reference = FrozenReference(copy.deepcopy(pretrained), find_head(pretrained, head))
    classifier = Classifier(model, head_name)
    _check_outputs(classifier, terms, num_classes)
    reference_layers = prepare_network(classifier, reference, terms)
    objective = Objective(classifier, terms)
    comm = current_comm()
    device = next(model.parameters()).device
    splits = {"train": batches, "val": val, "source": source}
    first = next(_open(splits, "train", device), None) if batches is not None else None
    if first is not None and isinstance(first.inputs, (Tensor, Mapping)):
        classifier.verify(first.inputs)
        classifier.verify_layers(first.inputs)

    def open_split(split: str) -> Iterator[Batch]:
        return _open(splits, split, device)

    def has_split(split: str) -> bool:
        return splits.get(split) is not None

    def open_epoch(batch_size: int, epoch: int) -> Iterator[Batch]:
        return _in_step(open_split("train"), comm, device)  # in the order and the sizes they come in

    def all_index() -> Tensor:
        own = torch.tensor(sum(len(batch) for batch in open_split("train")), device=device)
        return torch.arange(int(comm.sum(own)), device=device)

    view = SourceView(reference, num_classes, total_steps, comm, open_split, has_split, seed, open_epoch, all_index=all_index)
    check_classes(terms, num_classes, label="attach: method {!r}")
    for weighted in terms:
        weighted.term.setup(view)
    objective.terms.to(device)
    kept = reference if any(weighted.term.NEEDS.reference for weighted in terms) else None
    clock = Clock(total_steps=total_steps)
    context = StepContext(classifier, kept, comm, seed, clock, micro_batches=accumulate, draws=draws, reference_layers=reference_layers)
    warn_about_batch_terms(terms, accumulate)
    return Attached(objective, context)


def _need_no_source_head(terms: Sequence[WeightedTerm]) -> None:
    for weighted in terms:
        if weighted.term.NEEDS.source_head:
            raise ConfigError(
                f"attach: method {weighted.name!r} needs the classification head of the pretraining; "
                "pass attach(..., pretrained=network) with the network as it was, that head included"
            )


def _check_outputs(classifier: Classifier, terms: Sequence[WeightedTerm], num_classes: int) -> None:
    for weighted in terms:
        extra = (weighted.term.NEEDS.head or HeadForm()).extra
        if extra and classifier.head.out_features != num_classes + extra:
            raise ConfigError(
                f"attach: method {weighted.name!r} needs {extra} output(s) beyond the {num_classes} classes, but the head "
                f"{classifier.head_name!r} has {classifier.head.out_features}; give the model a head with {num_classes + extra}"
            )


def check_classes(terms: Sequence[WeightedTerm], num_classes: int, *, label: str) -> None:
    """Let methods refuse options that do not fit the classes, such as a matrix of another size.

    Raises:
        HoldfastError: Begins with ``label``, into which the method's name is put.
    """
    for weighted in terms:
        try:
            weighted.term.check(num_classes)
        except HoldfastError as error:
            raise type(error)(f"{label.format(weighted.name)}: {error}") from error


def prepare_network(classifier: Classifier, reference: FrozenReference, terms: Sequence[WeightedTerm]) -> tuple[str, ...]:
    """Make the network what the terms ask for: transforms applied, layers captured, here and in the reference.

    Returns:
        The layers of the reference that terms use at every step.

    Raises:
        ConfigError: A term needs the pretrained head, and the weights came without one.
        ModelError: The network has no such layer.
    """
    for weighted in terms:
        if isinstance(weighted.term, ModelTransform):
            weighted.term.transform(classifier.net)
    used: dict[str, None] = {}
    for weighted in terms:
        if weighted.term.NEEDS.source_head and not reference.has_source_head:
            raise ConfigError(
                f"method {weighted.name!r} needs the classification head of the pretraining, and these weights have none: "
                "use weights of a classifier, or another method"
            )
        layers = weighted.term.layers(classifier.net)
        maps = [layer for layer in layers if layer != "pooled"]
        classifier.capture(maps)
        reference.capture(maps)
        used.update(dict.fromkeys(layers if weighted.term.NEEDS.reference else ()))
    return tuple(used)


def head_form(terms: Sequence[WeightedTerm]) -> HeadForm:
    """The form of the fresh head that the terms ask for.

    Raises:
        ConfigError: Two terms ask for different ones.
    """
    asked = {weighted.name: weighted.term.NEEDS.head for weighted in terms if weighted.term.NEEDS.head is not None}
    forms = list(asked.values())
    if any(form != forms[0] for form in forms):
        raise ConfigError(f"method: {' and '.join(map(repr, asked))} ask for different heads; choose one of them")
    return forms[0] if forms and forms[0] is not None else HeadForm()


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


def _open(splits: Mapping[str, Iterable[tuple[Any, Tensor]] | None], split: str, device: torch.device) -> Iterator[Batch]:
    batches = splits.get(split)
    if batches is None:
        argument = {"val": "val=...", "source": "source=..."}.get(split, "batches, ...")
        raise DataError(
            f"attach: a method asks for batches of the {split} split; "
            f"pass attach(model, method, {argument}) with un-augmented (inputs, labels)"
        )
    if iter(batches) is batches:
        raise DataError("attach: batches must be iterable more than once; pass a DataLoader or a list instead of a generator")
    for inputs, labels in batches:
        yield Batch(_to(inputs, device), labels.to(device), torch.full_like(labels, -1, device=device))


def _in_step(batches: Iterator[Batch], comm: Comm, device: torch.device) -> Iterator[Batch]:
    """As many batches as the rank with the fewest has."""
    for batch in batches:
        if comm.size > 1 and comm.sum(torch.ones((), device=device)) < comm.size:
            return
        yield batch
    if comm.size > 1:
        comm.sum(torch.zeros((), device=device))


def _to(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, Tensor):
        return tree.to(device)
    if isinstance(tree, Mapping):
        return {key: _to(value, device) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_to(value, device) for value in tree)
    return tree
