"""What an estimate says of itself, and the limit it works under."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from holdfast.errors import ConfigError
from holdfast.types import Comm

__all__ = ["Budget", "Measurement", "Meter", "watching"]

_WATCHER: ContextVar[Callable[[int], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Callable[[int], None]) -> Iterator[None]:
    """Within the block every measurement tells ``watcher`` of the products it has just made, for a progress bar."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


@dataclass(frozen=True)
class Measurement:
    """An estimated number with its error and its cost.

    ``stderr`` is its standard error, 0 where it was computed without sampling and infinite where one draw gives none; ``products`` counts
    the products with a matrix that it took, ``seconds`` the wall-clock time. ``met`` says whether the accuracy asked for is reached.
    """

    value: float
    stderr: float
    products: int
    seconds: float
    met: bool


@dataclass(frozen=True)
class Budget:
    """The most that a measurement may take: ``products`` with the matrix, wall-clock ``seconds``, or both; None is no limit.

    An estimate ends before the product that would exceed it, judging by how long products took so far, and says ``met=False``.
    """

    products: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("products", self.products), ("seconds", self.seconds)):
            if limit is not None and limit <= 0:
                raise ConfigError(f"budget: {name} must be positive, got {limit}; leave it out for no limit.")


class Meter:
    """Counts products and seconds of one measurement against its budget.

    Under several ranks the clock of rank 0 decides for all: ranks that stopped at different products would wait for each other for ever.

    Args:
        budget: The limit, or None.
        operator: What is multiplied with.
        comm: Communication with ranks that make the same products.
    """

    def __init__(self, budget: Budget | None, operator: Any, comm: Comm | None = None) -> None:
        self.budget = budget or Budget()
        self.comm = comm
        self.device = operator.device
        self.products = 0
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since construction."""
        return time.perf_counter() - self._start

    def add(self, products: int = 1) -> None:
        """Note products that have been made."""
        self.products += products
        watcher = _WATCHER.get()
        if watcher is not None:
            watcher(products)

    def allows(self, products: int = 1) -> bool:
        """Whether that many more products fit into the budget."""
        fits = self.budget.products is None or self.products + products <= self.budget.products
        if self.budget.seconds is None:
            return fits
        each = self.seconds / max(self.products, 1)
        in_time = self.seconds + (products * each if self.products else 0.0) <= self.budget.seconds
        if self.comm is not None and self.comm.size > 1:
            in_time = bool(self.comm.broadcast(torch.tensor(float(in_time), device=self.device)))
        return fits and in_time
