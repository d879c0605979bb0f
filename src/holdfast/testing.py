"""The contract every method keeps, as a check for methods of your own.

::

    from holdfast.testing import check_regularizer

    def test_class_mean_keeps_the_contract():
        check_regularizer(ClassMean())

Each rule raises ``AssertionError`` with one sentence that says what is broken.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.attach import Attached, attach
from holdfast.errors import DataError
from holdfast.terms import Needs, Regularizer, Scope, TaskLoss, Term

__all__ = ["SmallNet", "check_loss", "check_regularizer"]

Examples = tuple[Tensor, Tensor]


class SmallNet(nn.Module):
    """Two layers and a head, smooth and without BatchNorm or dropout, so that accumulation and ranks must agree exactly."""

    def __init__(self, num_classes: int, *, inputs: int = 6, width: int = 5, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, width))
            self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, K) of inputs (B, 6)."""
        logits: Tensor = self.head(self.body(inputs))
        return logits


def check_regularizer(term: Regularizer, *, stops_gradient: bool = False) -> None:
    """Check a regularizer as constructed, not yet set up.

    The rules: declarations are valid; the penalty is a scalar of at least float32 whose gradient reaches the weights and agrees with
    finite differences, or there is none (an empty dict) because the method acts after each step; nothing passed in is changed; a
    discarded step leaves no trace; resuming is exact; two micro-batches equal one batch (unless the penalty is of the joint batch);
    float64 and bfloat16 autocast work; so do a batch of one, classes without examples (which ``setup`` may refuse with a
    ``DataError``), two classes and a thousand; and a GPU where there is one.

    Args:
        term: A fresh one.
        stops_gradient: Whether the method holds parts of its value constant on purpose, so that its gradient is not its slope; then
            finite differences are left out, and its gradient needs a test of its own.

    Raises:
        AssertionError: A rule is broken; the message says which.
    """
    assert isinstance(term, Regularizer), f"{type(term).__name__} must derive from holdfast.Regularizer"
    _check(term, stops_gradient)


def check_loss(term: TaskLoss, *, stops_gradient: bool = False) -> None:
    """Check a task loss as constructed; rules and arguments are those of :func:`check_regularizer`.

    One that declares ``NEEDS = Needs(weights=True)`` must also be ``1/B Σ w_i loss_i``: weights of 1 change nothing, twice the weights are
    twice the loss (so they are not made to have a given mean in the batch), and a row of weight 0 does not matter.

    Raises:
        AssertionError: A rule is broken; the message says which.
    """
    assert isinstance(term, TaskLoss), f"{type(term).__name__} must derive from holdfast.TaskLoss"
    _check(term, stops_gradient)
    if term.NEEDS.weights:
        _weights_multiply_rows(lambda: copy.deepcopy(term))


def _check(term: Term, stops_gradient: bool) -> None:
    _declarations_are_valid(term)
    slope = () if stops_gradient else (_gradient_agrees_with_finite_differences,)
    of_the_value = (_gradient_reaches_the_weights, *slope, _dtypes_are_kept)
    for rule in (
        *((_acts_after_steps,) if _returns_nothing(copy.deepcopy(term)) else of_the_value),
        _arguments_stay_as_they_are,
        _discarded_steps_leave_no_trace,
        _resuming_is_exact,
        _accumulation_changes_nothing,
        _unusual_batches_work,
        _works_on_a_gpu,
    ):
        rule(lambda: copy.deepcopy(term))


Fresh = Callable[[], Term]


def _examples(num_classes: int, count: int, *, seed: int = 1, dtype: torch.dtype = torch.float32, classes: int | None = None) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, torch.randint(classes or num_classes, (count,), generator=generator)


def _start(term: Term, *, num_classes: int = 3, dtype: torch.dtype = torch.float32, accumulate: int = 1, device: str = "cpu") -> Attached:
    """The term at work on a small network whose weights have already left their start."""
    net = SmallNet(num_classes + _extra_outputs(term)).to(device, dtype)
    inputs, labels = _examples(num_classes, 24, seed=7, dtype=dtype)
    pretrained = copy.deepcopy(net)
    _nudge(net)
    data = [(inputs, labels)]
    return attach(
        net,
        [term],
        data,
        num_classes=num_classes,
        pretrained=pretrained,
        val=data,
        source=[(inputs, labels % 2)],
        total_steps=8,
        accumulate=accumulate,
        seed=3,
    )


def _extra_outputs(term: Term) -> int:
    return 0 if term.NEEDS.head is None else term.NEEDS.head.extra


def _nudge(net: nn.Module) -> None:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter), alpha=0.1)


def _train(terms: Attached, steps: range, *, micro: int = 1, device: str = "cpu") -> None:
    dtype = next(terms.objective.parameters()).dtype
    parameters = list(terms.objective.parameters())
    for step in steps:
        rows = *_examples(3, 8, seed=100 + step, dtype=dtype), (torch.arange(8) + 5 * step) % 24
        for inputs, labels, index in zip(*(tensor.chunk(micro) for tensor in rows), strict=True):
            _loss(terms, inputs.to(device), labels.to(device), index).backward()
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=0.05)
                    parameter.grad = None
        terms.after_step()


def _loss(terms: Attached, inputs: Tensor, labels: Tensor, index: Tensor | None = None) -> Tensor:
    """The loss of a batch, with what the terms need beside it: views and further data, made from its rows."""
    needs = [weighted.term.NEEDS for weighted in terms.objective.configured]
    views = [0.9 * inputs] * max(need.views for need in needs)
    extra = {name: (1.1 * inputs, labels % 2) for need in needs for name in need.extra}
    return terms.loss(inputs, labels, torch.arange(len(labels)) if index is None else index, views=views, extra=extra)


def _own_values(terms: Attached, term: Term) -> Tensor:
    """Sum of what the term itself returns on one batch, with its graph."""
    value = _returned(terms, term)
    return value if isinstance(value, Tensor) else torch.stack(list(value.values())).sum()


def _returns_nothing(term: Term) -> bool:
    value = _returned(_start(term), term)
    return not isinstance(value, Tensor) and not value


def _returned(terms: Attached, term: Term) -> Tensor | Mapping[str, Tensor]:
    """What the term itself returns on one batch."""
    inputs, labels = _examples(3, 8, dtype=next(terms.objective.parameters()).dtype)
    caught: list[Tensor | Mapping[str, Tensor]] = []
    name = "loss" if isinstance(term, TaskLoss) else "penalty"
    original = getattr(term, name)

    def catching(step: Any) -> Any:
        caught.append(original(step))
        return caught[-1]

    object.__setattr__(term, name, catching)
    try:
        _loss(terms, inputs, labels)
    finally:
        object.__delattr__(term, name)
    terms.discard_step()
    return caught[0]


def _state(terms: Attached) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in terms.objective.state_dict().items() if isinstance(value, Tensor)}


def _differences(first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, exact: bool) -> Iterator[str]:
    for name in first.keys() | second.keys():
        if (
            name not in first
            or name not in second
            or (exact and not torch.equal(first[name], second[name]))
            or (not exact and not torch.allclose(first[name], second[name], rtol=1e-9, atol=1e-11))
        ):
            yield name


def _declarations_are_valid(term: Term) -> None:
    name = type(term).__name__
    assert isinstance(term.NEEDS, Needs), f"{name}.NEEDS must be holdfast.Needs(...), got {term.NEEDS!r}"
    scopes = term.SCOPE.values() if isinstance(term.SCOPE, Mapping) else (term.SCOPE,)
    assert all(isinstance(scope, Scope) for scope in scopes), f"{name}.SCOPE must be a holdfast.Scope, got {term.SCOPE!r}"
    for state in term.STATE:
        assert getattr(term, state) is None, f"{name}: {state!r} of STATE is filled by setup, not by __init__"


def _gradient_reaches_the_weights(fresh: Fresh) -> None:
    term = fresh()
    terms = _start(term)
    value = _own_values(terms, term)
    name = type(term).__name__
    assert value.ndim == 0, f"{name}: the value must be a scalar, got shape {tuple(value.shape)}"
    assert torch.isfinite(value), f"{name}: the value is {value.item()}"
    assert value.dtype in (torch.float32, torch.float64), f"{name}: the value must be float32 or wider, got {value.dtype}"
    assert value.requires_grad, (
        f"{name}: the value has no gradient; build it from step.features or step.logits, without detach or torch.tensor"
    )
    grads = torch.autograd.grad(value, list(terms.objective.model.parameters()), allow_unused=True)
    assert any(grad is not None and bool(grad.any()) for grad in grads), f"{name}: no gradient reaches the network's weights"


def _acts_after_steps(fresh: Fresh) -> None:
    name = type(fresh()).__name__
    assert isinstance(fresh(), Regularizer), f"{name}: a task loss must return a value"
    assert type(fresh()).after_step is not Term.after_step, f"{name}: returns no penalty and does nothing after a step"


def _gradient_agrees_with_finite_differences(fresh: Fresh) -> None:
    term = fresh()
    terms = _start(term, dtype=torch.float64)
    parameters = list(terms.objective.model.parameters())
    generator = torch.Generator().manual_seed(5)
    directions = [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for parameter in parameters]
    grads = torch.autograd.grad(_own_values(terms, term), parameters, allow_unused=True)
    slope = sum(float((grad * direction).sum()) for grad, direction in zip(grads, directions, strict=True) if grad is not None)

    def move(distance: float) -> None:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=distance)

    def at(distance: float) -> float:
        move(distance)
        value = float(_own_values(terms, term).detach())
        move(-distance)
        return value

    numeric = (at(1e-5) - at(-1e-5)) / 2e-5
    assert abs(slope - numeric) <= 1e-6 * max(1.0, abs(numeric)), (
        f"{type(term).__name__}: the gradient gives slope {slope:.8g}, finite differences {numeric:.8g}"
    )


def _weights_multiply_rows(fresh: Fresh) -> None:
    inputs, labels = _examples(3, 8, dtype=torch.float64)
    weights = torch.rand(8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    weights[2] = 0
    elsewhere = inputs.clone()
    elsewhere[2] += 1

    def value(inputs: Tensor, weights: Tensor | None) -> float:
        views = [0.9 * inputs] * fresh().NEEDS.views
        return float(_start(fresh(), dtype=torch.float64).loss(inputs, labels, torch.arange(8), weights=weights, views=views).detach())

    name = type(fresh()).__name__
    plain, ones = value(inputs, None), value(inputs, torch.ones_like(weights))
    assert math.isclose(plain, ones, rel_tol=1e-9), f"{name}: weights of 1 change the loss from {plain:.8g} to {ones:.8g}"
    once, twice = value(inputs, weights), value(inputs, 2 * weights)
    assert math.isclose(2 * once, twice, rel_tol=1e-9), (
        f"{name}: twice the weights make {twice:.8g} of {once:.8g}; multiply each row by step.weights and divide by the number of rows"
    )
    moved = value(elsewhere, weights)
    assert math.isclose(once, moved, rel_tol=1e-9), f"{name}: a row of weight 0 changes the loss from {once:.8g} to {moved:.8g}"


def _arguments_stay_as_they_are(fresh: Fresh) -> None:
    term = fresh()
    terms = _start(term)
    inputs, labels = _examples(3, 8)
    before = inputs.clone(), labels.clone()
    _loss(terms, inputs, labels)
    terms.after_step()
    for name, now, then in (("inputs", inputs, before[0]), ("labels", labels, before[1])):
        assert torch.equal(now, then), f"{type(term).__name__}: {name} were changed in place"


def _discarded_steps_leave_no_trace(fresh: Fresh) -> None:
    kept, tried = _start(fresh()), _start(fresh())
    _loss(tried, *_examples(3, 8, seed=55))
    tried.discard_step()
    for terms in (kept, tried):
        _train(terms, range(2))
    changed = sorted(_differences(_state(kept), _state(tried), exact=True))
    assert not changed, f"{type(fresh()).__name__}: a discarded step changed {changed[0]!r}; drop what it collected in discard_step"


def _resuming_is_exact(fresh: Fresh) -> None:
    through = _start(fresh())
    _train(through, range(6))
    first = _start(fresh())
    _train(first, range(3))
    second = _start(fresh())
    blank = fresh()
    second.objective.terms[-1] = blank
    second.objective.configured = second.objective.weighted = tuple(
        type(weighted)(weighted.name, blank if position == len(second.objective.configured) - 1 else weighted.term, weighted.weights)
        for position, weighted in enumerate(second.objective.configured)
    )
    second.objective.model.load_state_dict(first.objective.model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _train(second, range(3, 6))
    changed = sorted(_differences(_state(through), _state(second), exact=True))
    assert not changed, (
        f"{type(blank).__name__}: after saving and loading, {changed[0]!r} differs from an uninterrupted run; name all state in STATE"
    )


def _accumulation_changes_nothing(fresh: Fresh) -> None:
    scope = fresh().SCOPE
    if Scope.BATCH in (scope.values() if isinstance(scope, Mapping) else (scope,)):
        return
    whole, parts = _start(fresh(), dtype=torch.float64), _start(fresh(), dtype=torch.float64, accumulate=2)
    _train(whole, range(4))
    _train(parts, range(4), micro=2)
    changed = sorted(_differences(_state(whole), _state(parts), exact=False))
    assert not changed, f"{type(fresh()).__name__}: two micro-batches differ from one batch in {changed[0]!r}; communicate sums, not means"


def _dtypes_are_kept(fresh: Fresh) -> None:
    term = fresh()
    value = _own_values(_start(term, dtype=torch.float64), term)
    assert value.dtype is torch.float64, f"{type(term).__name__}: float64 features gave a {value.dtype} value"
    term = fresh()
    terms = _start(term)
    with torch.autocast("cpu", torch.bfloat16):
        value = _own_values(terms, term)
    assert value.dtype is torch.float32, f"{type(term).__name__}: under bfloat16 autocast the value is {value.dtype}, expected float32"
    assert torch.isfinite(value), f"{type(term).__name__}: under bfloat16 autocast the value is {value.item()}"


def _unusual_batches_work(fresh: Fresh) -> None:
    for num_classes, seen in ((3, 3), (3, 2), (2, 2), (1000, 30)):
        term = fresh()
        net = SmallNet(num_classes + _extra_outputs(term))
        examples, labels = _examples(num_classes, 24, seed=7, classes=seen)
        pretrained, source = SmallNet(num_classes + 2), [(examples, labels % 2)]
        try:
            terms = attach(net, [term], [(examples, labels)], num_classes=num_classes, pretrained=pretrained, source=source, total_steps=8)
        except DataError:
            assert len(labels.unique()) < num_classes, f"{type(term).__name__}: setup refuses data in which no class is absent"
            continue  # to name the absent class is an answer too
        # A batch of one; then a label that the statistics have not seen.
        for inputs, labels in (_examples(num_classes, 1, classes=seen), (torch.ones(2, 6), torch.tensor([num_classes - 1, 0]))):
            total = _loss(terms, inputs, labels)
            total.backward()
            terms.after_step()
            assert torch.isfinite(total), f"{type(term).__name__}: not finite with K = {num_classes} and a batch of {len(labels)}"
        bad = [name for name, value in _state(terms).items() if value.is_floating_point() and not torch.isfinite(value).all()]
        assert not bad, f"{type(term).__name__}: the state {bad[0]!r} is not finite with K = {num_classes} and absent classes"


def _works_on_a_gpu(fresh: Fresh) -> None:
    if not torch.cuda.is_available():
        return
    terms = _start(fresh(), device="cuda")
    _train(terms, range(2), device="cuda")
    away = [name for name, value in _state(terms).items() if value.device.type != "cuda"]
    assert not away, f"{type(fresh()).__name__}: the state {away[0]!r} stayed on the CPU"
