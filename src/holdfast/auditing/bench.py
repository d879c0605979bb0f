"""What the measures of curvature share: the matrix on fixed examples, the moves, the budget, and the notes for the reader."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from holdfast.auditing.batches import recut
from holdfast.auditing.memory import fitting_batch, graph_bytes
from holdfast.auditing.options import AuditOptions
from holdfast.auditing.sharing import Purse
from holdfast.auditing.subject import Subject
from holdfast.measures.measurement import Budget
from holdfast.measures.operators import CurvatureOperator
from holdfast.measures.parameters import WeightBlocks
from holdfast.measures.probes import draw_probe
from holdfast.types import Batch

__all__ = ["Bench"]

PRODUCTS_WANTED = 60
"""Products that a budget should pay for, beside one for each layer, or fewer examples are taken."""

LEAST_SAMPLES = 16

TOO_SLOW = (
    "Curvature was measured on {fewer} training examples instead of {samples}, because products with the Hessian are slow here; "
    "type --samples {samples} and raise --budget, or type --full."
)

SETTLED = 6
"""Steps after which the Hessian distance of a layer has usually settled."""


@dataclass
class Bench:
    """Everything that measures of curvature work with.

    Args:
        subject: What is audited.
        options: How.
        operator: The Hessian of the mean loss over the examples, in the measured layers.
        moves: How far each layer moved, by name; None where the start is not known.
        purse: The budget.
        product_seconds: One product, as timed.
        memory_mib: Memory of the graph of a batch and of the vectors of a recursion.
        batch_size: Examples that go through the network at once.
        notes: Sentences for the reader, which the measures add to.
    """

    subject: Subject
    options: AuditOptions
    operator: CurvatureOperator
    moves: Mapping[str, Tensor] | None
    purse: Purse
    product_seconds: float
    memory_mib: float
    batch_size: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def build(
        cls, subject: Subject, options: AuditOptions, layers: tuple[str, ...], moves: Mapping[str, Tensor] | None, purse: Purse
    ) -> Bench:
        """Draw the examples, choose how many go at once, and time a product.

        Raises:
            ModelError: The network has an operation without second derivative.
        """
        weights = WeightBlocks(subject.net, layers)
        examples = subject.sample(options.samples, options.seed, options.samples)
        notes = []
        if purse.seconds is not None and not options.fixed_samples:
            fewer = _within_budget(subject, options, layers, purse.seconds)
            if fewer < min(options.samples, subject.data.size("train")):
                notes.append(TOO_SLOW.format(fewer=fewer, samples=options.samples))
                options = dataclasses.replace(options, samples=fewer)
                examples = subject.sample(fewer, options.seed, fewer)
        size, graph = _batch_size(subject, options, weights, examples)
        operator = _operator(subject, options, layers, recut(examples, size))
        seconds = _product_seconds(operator, subject, options.seed)
        memory = (2 * graph + 8 * weights.size * 4) / 2**20
        return cls(subject, options, operator, moves, purse, seconds, memory, size, notes)

    @property
    def batches(self) -> list[Batch]:
        """This rank's examples."""
        batches = self.operator.batches
        assert isinstance(batches, list)
        return batches

    def affords(self, budget: Budget, products: int, part: str, *, each: float = 1.0) -> bool:
        """Whether a part can make at least that many products, each for a part of the time of a whole one; else a note says so."""
        enough = (budget.products is None or budget.products >= products) and (
            budget.seconds is None or budget.seconds >= products * each * self.product_seconds
        )
        if not enough:
            self.notes.append(
                f"The {part} was left out: its share of the budget does not allow the {products} products with the Hessian that it needs "
                f"at least; raise --budget, lower --samples (now {self.options.samples}), or type --full."
            )
        return enough

    def agree(self, number: float) -> float:
        """A number that was timed, as rank 0 found it."""
        return _of_rank_0(number, self.subject)

    def products_within(self, budget: Budget) -> int | None:
        """How many products a budget has room for; None where it has no limit."""
        by_time = None if budget.seconds is None else int(budget.seconds / max(self.product_seconds, 1e-9))
        limits = [limit for limit in (by_time, budget.products) if limit is not None]
        return min(limits) if limits else None

    def expected(self, part: str) -> int | None:
        """Products that a part probably makes where it has all the time it wants; None where that depends on what it finds."""
        layers = len(self.operator.blocks)
        units = {"mean": 1, "batch": -(-self.options.samples // 4), "sample": self.options.samples}[self.options.over]
        of_a_unit = 1 if self.options.mode == "full_row" else SETTLED * layers
        return {"hessian distance": units * of_a_unit, "spectrum": 5 * 80, "noise stability": 0}.get(part)


def _operator(subject: Subject, options: AuditOptions, layers: tuple[str, ...], batches: list[Batch]) -> CurvatureOperator:
    return CurvatureOperator(subject.net, subject.loss, batches, layers=layers, comm=subject.comm, differences=options.differences)


def _product_seconds(operator: CurvatureOperator, subject: Subject, seed: int) -> float:
    start = time.perf_counter()
    _ = operator @ draw_probe(operator, seed, 0)
    return _of_rank_0(time.perf_counter() - start, subject)


def _within_budget(subject: Subject, options: AuditOptions, layers: tuple[str, ...], seconds: float) -> int:
    """How many examples let a budget in seconds pay for enough products, judging by a product on a few of them."""
    few = subject.sample(LEAST_SAMPLES, options.seed, options.batch_size or LEAST_SAMPLES)
    each = _product_seconds(_operator(subject, options, layers, few), subject, options.seed) / LEAST_SAMPLES
    affordable = int(seconds / ((PRODUCTS_WANTED + len(layers)) * each))
    if affordable >= options.samples:
        return options.samples
    return max(LEAST_SAMPLES, 1 << (max(affordable, 1).bit_length() - 1))


def _batch_size(subject: Subject, options: AuditOptions, weights: WeightBlocks, samples: list[Batch]) -> tuple[int, int]:
    """How many examples go at once, and the memory of their graph in bytes."""
    if not samples:
        return options.batch_size or options.samples, 0
    own = sum(len(batch) for batch in samples)
    one = recut(samples[:1], 1)[0]
    each = 0 if options.differences else graph_bytes(weights, subject.loss, one)
    size = min(options.batch_size or fitting_batch(each, own, subject.device), own)
    return size, size * each


def _of_rank_0(number: float, subject: Subject) -> float:
    if subject.comm.size == 1:
        return number
    return float(subject.comm.broadcast(torch.tensor(number, dtype=torch.float64, device=subject.device)))
