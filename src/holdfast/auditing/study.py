"""The course of an audit: its parts in their order, each timed and announced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from holdfast.auditing.assembly import Findings, assemble
from holdfast.auditing.bench import Bench
from holdfast.auditing.bound import measure_positive_traces
from holdfast.auditing.curvature import measure_along_move, measure_trace
from holdfast.auditing.distances import chosen_layers, head_origin, measure_distances
from holdfast.auditing.events import AuditStarted, Estimated, Listener, PartDone, PartProgress, PartStarted, ignore
from holdfast.auditing.features import features_section
from holdfast.auditing.gap import measure_fit
from holdfast.auditing.memory import explaining_shortage
from holdfast.auditing.options import AuditOptions
from holdfast.auditing.sharing import Purse
from holdfast.auditing.spectrum import measure_spectrum
from holdfast.auditing.stability import measure_stability
from holdfast.auditing.subject import Subject
from holdfast.measures.distance import displacements
from holdfast.measures.measurement import Budget, watching

__all__ = ["study"]

EVALUATED = {True: 100_000, False: 10_000}
"""Most training examples whose loss is taken, by a full and by a quick audit."""

FEATURES = {True: 4096, False: 1024}
"""Most training examples whose features are measured; entropies cost the square of their number."""


EVALUATION_BATCH = 64
"""Examples that go through the network at once where no derivative is taken."""


def study(subject: Subject, options: AuditOptions, listener: Listener = ignore) -> dict[str, Any]:
    """Measure everything and return the content of ``audit.json``; all ranks make the same steps, rank 0 tells of them.

    Raises:
        ModelError: The network cannot be measured as it is.
        ConfigError: An option does not fit the network, or there is not enough memory.
        NonDeterministicError: Two passes over the data differ.
    """
    with _exact_arithmetic():
        return _Study(subject, options, listener if subject.comm.rank == 0 else ignore).record()


@dataclass
class _Study:
    """An audit under way; ``costs`` has seconds and products of each part that is done."""

    subject: Subject
    options: AuditOptions
    listener: Listener
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """All parts, those that the budget is shared out over last."""
        subject, options = self.subject, self.options
        layers = chosen_layers(subject.net, options.layers)
        head = head_origin(subject, options)
        self.listener(AuditStarted(subject.record(), options.settings(), len(layers)))
        purse = Purse(options.budget, options.products, subject.comm, subject.device)
        found = Findings(layers, head, notes=list(subject.notes))
        with self._part("distances"):
            found.distances = measure_distances(subject, layers, head)
        with self._part("losses"):
            found.fit = measure_fit(
                subject, most=EVALUATED[options.full], seed=options.seed, batch_size=options.batch_size or EVALUATION_BATCH
            )
        with self._part("features"):
            found.features, notes = features_section(
                subject, most=FEATURES[options.full], seed=options.seed, batch_size=options.batch_size or EVALUATION_BATCH
            )
        found.notes += notes
        self._curvature(found, purse)
        return assemble(subject, options, found, self.costs)

    def _curvature(self, found: Findings, purse: Purse) -> None:
        """The parts that multiply with the Hessian."""
        subject, options = self.subject, self.options
        moves = None
        if subject.start is not None:
            moves = displacements(subject.net, subject.start, layers=found.layers, head=found.head, head_name=subject.head_name)
        with self._part("estimate"), explaining_shortage("one product", options.batch_size or options.samples, options.samples):
            bench = Bench.build(subject, options, found.layers, moves, purse)
        self.listener(Estimated(bench.product_seconds, bench.memory_mib, options.budget, options.products))
        found.batch_size, found.samples = bench.batch_size, bench.options.samples
        with self._share("trace", bench) as budget:
            found.trace = measure_trace(bench, budget)
        with self._share("hessian distance", bench) as budget:
            found.along = measure_along_move(bench, budget)
        with self._share("spectrum", bench) as budget:
            found.density = measure_spectrum(bench, budget)
        with self._share("noise stability", bench) as budget:
            found.stability = measure_stability(bench, budget, None if found.trace is None else found.trace.total.value)
        if found.along is not None and found.along.psd:
            with self._share("distance form", bench) as budget:
                found.positive_traces = measure_positive_traces(bench, budget)
        found.notes += bench.notes

    @contextmanager
    def _share(self, name: str, bench: Bench) -> Iterator[Budget]:
        """A part with its share of the budget."""
        budget = bench.purse.share(name)
        within = bench.products_within(budget) if name != "noise stability" else None
        expected = bench.expected(name)
        products = expected if within is None else within if expected is None else min(within, expected)
        seconds = budget.seconds if expected is None or products is None else products * bench.product_seconds
        short = explaining_shortage(f"the {name}", bench.batch_size, self.options.samples)
        with self._part(name, products, seconds), short:
            yield budget
        bench.purse.spend(self.costs[name]["products"])

    @contextmanager
    def _part(self, name: str, products: int | None = None, seconds: float | None = None) -> Iterator[None]:
        """Announce a part, note its cost, and tell of its products as they are made."""
        self.listener(PartStarted(name, products, seconds))
        start, made = time.perf_counter(), 0

        def note(count: int) -> None:
            nonlocal made
            made += count
            self.listener(PartProgress(name, made, time.perf_counter() - start))

        with watching(note):
            yield
        self.costs[name] = {"seconds": time.perf_counter() - start, "products": made}
        self.listener(PartDone(name, made, self.costs[name]["seconds"]))


@contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """Products of float32 in float32: on GPUs torch rounds the factors of convolutions to 10 bits otherwise."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    matmul.allow_tf32 = conv.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, conv.allow_tf32 = before
