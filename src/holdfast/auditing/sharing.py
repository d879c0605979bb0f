"""One budget for all measures, shared out as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from holdfast.measures.measurement import Budget
from holdfast.types import Comm

__all__ = ["WEIGHTS", "Purse"]

WEIGHTS: Mapping[str, float] = {"trace": 25, "hessian distance": 42, "spectrum": 20, "noise stability": 9, "distance form": 4}
"""Parts in their order, with the share of the budget that each may take; what one leaves over goes to those after it."""

FLOOR = 0.5
"""Part of the seconds that is kept for these measures, whatever was spent before they begin."""


class Purse:
    """What is left of a budget.

    Args:
        seconds: Wall-clock limit for everything since construction; None for none.
        products: Limit of products with the Hessian; None for none.
        comm: Under several ranks the clock of rank 0 decides for all.
        device: Of what ranks tell each other.
    """

    def __init__(self, seconds: float | None, products: int | None, comm: Comm, device: torch.device) -> None:
        self.seconds, self.products = seconds, products
        self._comm, self._device = comm, device
        self._start = time.perf_counter()
        self._kept = 0.0 if seconds is None else FLOOR * seconds
        self._measuring: float | None = None
        self._done: set[str] = set()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.seconds is not None or self.products is not None

    def spend(self, products: int) -> None:
        """Note products that were made."""
        if self.products is not None:
            self.products = max(self.products - products, 0)

    def share(self, part: str) -> Budget:
        """What ``part`` may take of what is left; each part asks once, in any order."""
        share = WEIGHTS[part] / sum(weight for name, weight in WEIGHTS.items() if name not in self._done)
        self._done.add(part)
        left = self._seconds_left()
        # A budget of nothing is none at all: one product is the least that can be asked for.
        products = None if self.products is None else max(int(share * self.products), 1)
        return Budget(products, None if left is None else max(share * left, 1e-3))

    def _seconds_left(self) -> float | None:
        if self.seconds is None:
            return None
        if self._measuring is None:  # what came before took its part of the budget, but not more than the floor allows
            self._measuring = time.perf_counter()
            self._limit = max(self.seconds - (self._measuring - self._start), self._kept)
        left = self._limit - (time.perf_counter() - self._measuring)
        if self._comm.size > 1:
            left = float(self._comm.broadcast(torch.tensor(left, device=self._device)))
        return max(left, 0.0)
