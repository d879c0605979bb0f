"""Products of curvature matrices with vectors on one batch, by reverse mode over a graph that is kept for all of them.

Each class holds the graph of one batch. ``multiply(parts, wanted)`` gives, for each number i in ``wanted``, the sum over j in ``parts``
of M_ij u_j, where M is the *sum* over the batch's examples. With ``batched``, parts have a leading axis of several vectors at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from holdfast.errors import ModelError, ShapeError, describe
from holdfast.measures.evaluation import outputs_of
from holdfast.measures.parameters import WeightBlocks

__all__ = [
    "BatchProducts",
    "DifferenceProducts",
    "GaussNewtonProducts",
    "HessianProducts",
    "Loss",
    "empirical_fisher_of_outputs",
    "fisher_of_outputs",
    "hessian_of_outputs",
    "per_example",
]

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K) and labels (B,) to the loss of each example (B,)."""

OutputMatrix = Callable[[Loss, Tensor, Tensor], Callable[[Tensor, bool], Tensor]]
"""From loss, logits and labels to the product of a matrix at the outputs with tangents; the flag says whether they are batched."""

STEP = {torch.float32: 1e-3, torch.float64: 1e-5}
"""Step of a difference of gradients, in units of (1 + ‖w‖) / ‖u‖."""


NO_SECOND = (
    "the network has an operation without second derivative ({}); replace it, or take differences of gradients with differences=True."
)


class BatchProducts(Protocol):
    """Products on one batch of ``count`` examples."""

    count: int

    def multiply(self, parts: Mapping[int, Tensor], wanted: Sequence[int], *, batched: bool = False) -> list[Tensor]:
        """Rows ``wanted`` of the matrix times a vector that is ``parts`` there and zero elsewhere."""


def per_example(loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
    """The losses (B,) of a batch.

    Raises:
        ShapeError: The loss is already reduced.
    """
    losses = loss(outputs, labels)
    if losses.shape != labels.shape[:1]:
        raise ShapeError(
            f"loss must return one number for each of the {len(labels)} examples, got shape {tuple(losses.shape)}; "
            "pass one without reduction, such as partial(cross_entropy, reduction='none')."
        )
    return losses


class HessianProducts:
    """The Hessian of the summed loss: gradients with a graph, differentiated once more for each vector."""

    def __init__(self, weights: WeightBlocks, loss: Loss, inputs: Any, labels: Tensor) -> None:
        self.count = len(labels)
        self._leaves = weights.leaves()
        with twice_differentiable():
            total = per_example(loss, outputs_of(weights.net, weights.substitution(self._leaves), inputs), labels).sum()
            self._gradients = _gradients([total], self._leaves, create_graph=True)
        _refuse_undifferentiable(self._gradients)

    def multiply(self, parts: Mapping[int, Tensor], wanted: Sequence[int], *, batched: bool = False) -> list[Tensor]:
        """As in :class:`BatchProducts`."""
        outputs, vectors = _connected({number: self._gradients[number] for number in parts}, parts)
        with twice_differentiable():
            return _gradients(outputs, [self._leaves[number] for number in wanted], vectors, batched=batched)


class GaussNewtonProducts:
    """Jᵀ M J with J the Jacobian of the outputs and M a positive semi-definite matrix at the outputs of each example.

    Args:
        weights: The weights that J is taken in.
        loss: Loss of each example.
        inputs: What the network takes.
        labels: Labels (B,).
        matrix: Which M; see ``*_of_outputs``.
    """

    def __init__(self, weights: WeightBlocks, loss: Loss, inputs: Any, labels: Tensor, matrix: OutputMatrix) -> None:
        self.count = len(labels)
        self._leaves = weights.leaves()
        self._outputs = outputs_of(weights.net, weights.substitution(self._leaves), inputs)
        # Jᵀw is linear in w, so its derivative in w along u is J u: forward mode from two reverse passes, over a graph that is kept.
        self._pulled_from = torch.zeros_like(self._outputs, requires_grad=True)
        with twice_differentiable():
            self._pulled = _gradients([self._outputs], self._leaves, [self._pulled_from], create_graph=True)
        _refuse_undifferentiable(self._pulled)
        self._inner = matrix(loss, self._outputs.detach(), labels)

    def multiply(self, parts: Mapping[int, Tensor], wanted: Sequence[int], *, batched: bool = False) -> list[Tensor]:
        """As in :class:`BatchProducts`."""
        outputs, vectors = _connected({number: self._pulled[number] for number in parts}, parts)
        with twice_differentiable():
            (tangent,) = _gradients(outputs, [self._pulled_from], vectors, batched=batched)
            leaves = [self._leaves[number] for number in wanted]
            if not outputs:  # no output depends on these weights
                return _gradients([], leaves, vectors, batched=batched)
            return _gradients([self._outputs], leaves, [self._inner(tangent, batched)], batched=batched)


class DifferenceProducts:
    """The Hessian by central differences of gradients, for networks with an operation that has no second derivative.

    Relative accuracy is about 1e-8 in float64 and 1e-2 in float32.
    """

    def __init__(self, weights: WeightBlocks, loss: Loss, inputs: Any, labels: Tensor) -> None:
        self.count = len(labels)
        self._weights, self._loss, self._inputs, self._labels = weights, loss, inputs, labels

    def multiply(self, parts: Mapping[int, Tensor], wanted: Sequence[int], *, batched: bool = False) -> list[Tensor]:
        """As in :class:`BatchProducts`."""
        if batched:
            vectors = [self.multiply(dict(zip(parts, rows, strict=True)), wanted) for rows in zip(*parts.values(), strict=True)]
            return [torch.stack(rows) for rows in zip(*vectors, strict=True)]
        values = self._weights.leaves()
        length = _norm(parts.values())
        if not length:
            return [torch.zeros_like(values[number]) for number in wanted]
        step = STEP[self._weights.dtype] * (1 + _norm(values)) / length
        above, below = (self._gradient(values, parts, wanted, sign * step) for sign in (1, -1))
        return [(up - down) / (2 * step) for up, down in zip(above, below, strict=True)]

    def _gradient(self, values: list[Tensor], parts: Mapping[int, Tensor], wanted: Sequence[int], step: float) -> list[Tensor]:
        moved = [value.detach().add(parts[n], alpha=step) if n in parts else value.detach() for n, value in enumerate(values)]
        leaves = [value.requires_grad_() for value in moved]
        outputs = outputs_of(self._weights.net, self._weights.substitution(leaves), self._inputs)
        return _gradients([per_example(self._loss, outputs, self._labels).sum()], [leaves[number] for number in wanted])


def hessian_of_outputs(loss: Loss, outputs: Tensor, labels: Tensor) -> Callable[[Tensor, bool], Tensor]:
    """Second derivatives of the losses in the outputs: the generalized Gauss-Newton matrix."""
    outputs = outputs.requires_grad_()
    gradient = _gradients([per_example(loss, outputs, labels).sum()], [outputs], create_graph=True)

    def multiply(tangent: Tensor, batched: bool) -> Tensor:
        connected, vectors = _connected({0: gradient[0]}, {0: tangent})
        return _gradients(connected, [outputs], vectors, batched=batched)[0] if connected else torch.zeros_like(tangent)

    return multiply


def fisher_of_outputs(loss: Loss, outputs: Tensor, labels: Tensor) -> Callable[[Tensor, bool], Tensor]:
    """Expected outer product of the score of softmax(outputs) under that distribution, diag(p) - p pᵀ: the Fisher information.

    For cross-entropy this is the Gauss-Newton matrix; it reads neither loss nor labels.
    """
    probs = _matrix(outputs).softmax(dim=1)
    return lambda tangent, batched: probs * (tangent - (probs * tangent).sum(dim=-1, keepdim=True))


def empirical_fisher_of_outputs(loss: Loss, outputs: Tensor, labels: Tensor) -> Callable[[Tensor, bool], Tensor]:
    """Outer product of each example's gradient at its own label: the mean over examples of g gᵀ, often mistaken for the Fisher."""
    outputs = _matrix(outputs).requires_grad_()
    (gradient,) = _gradients([per_example(loss, outputs, labels).sum()], [outputs])
    return lambda tangent, batched: gradient * (gradient * tangent).sum(dim=-1, keepdim=True)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Turn torch's report of an operation that cannot be differentiated twice into one that says what to do."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "is not implemented" in str(error):
            raise ModelError(NO_SECOND.format(describe(error)[:200])) from error
        raise


def _refuse_undifferentiable(gradients: Sequence[Tensor]) -> None:
    """Refuse gradients through a function marked as once differentiable: torch would take its derivative as constant, without a word.

    It marks such a place by a node that raises when it is run, but no path to the weights leads through that node.
    """
    waiting, seen = [gradient.grad_fn for gradient in gradients], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("Error"):
            raise ModelError(NO_SECOND.format("an autograd function marked with once_differentiable"))
        seen.add(node)
        waiting += [function for function, _ in node.next_functions]


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    vectors: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    batched: bool = False,
) -> list[Tensor]:
    """Derivatives of the outputs along ``vectors``, zeros for what they do not depend on; the graph is kept where vectors are given."""
    rows = (len(vectors[0]),) if batched and vectors else ()
    found: Sequence[Tensor | None] = [None] * len(inputs)
    if any(output.requires_grad for output in outputs):
        found = torch.autograd.grad(
            outputs,
            inputs,
            vectors,
            retain_graph=create_graph or vectors is not None,
            create_graph=create_graph,
            allow_unused=True,
            is_grads_batched=batched,
        )
    pairs = zip(found, inputs, strict=True)
    return [wanted.new_zeros(*rows, *wanted.shape) if gradient is None else gradient for gradient, wanted in pairs]


def _connected(outputs: Mapping[int, Tensor], vectors: Mapping[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs that still depend on something, with their vectors; all vectors where none does, for their number of rows."""
    kept = [number for number, output in outputs.items() if output.requires_grad]
    return [outputs[number] for number in kept], [vectors[number] for number in kept or vectors]


def _matrix(outputs: Tensor) -> Tensor:
    if outputs.ndim != 2:
        raise ShapeError(f"a Fisher matrix needs logits (B, K), got {tuple(outputs.shape)}; take kind='gauss-newton'.")
    return outputs


def _norm(tensors: Any) -> float:
    return float(sum(tensor.detach().double().square().sum() for tensor in tensors)) ** 0.5
