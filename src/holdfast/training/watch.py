"""Finding the first bad number without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from holdfast.errors import NonFiniteError
from holdfast.types import Comm

__all__ = ["FiniteWatch"]


class FiniteWatch:
    """Remembers, on the device, the first step at which each term was NaN or infinite.

    ``record`` launches a few tiny operations and never waits; ``check`` reads the result, every ``EVERY`` steps and before anything
    is saved.
    """

    EVERY = 50

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._first: Tensor | None = None  # (terms,), -1 while all is well

    def record(self, values: Mapping[str, Tensor], step: int) -> None:
        """Take in the values of one forward pass; the terms are the same at every step."""
        bad = ~torch.isfinite(torch.stack(list(values.values())))
        if self._first is None:
            self._names = tuple(values)
            self._first = torch.full_like(bad, -1, dtype=torch.int64)
        self._first = torch.where(bad & (self._first < 0), step, self._first)

    def check(self, comm: Comm) -> None:
        """Stop the run, on all ranks together, if anything was bad on one of them.

        Raises:
            NonFiniteError: Names the first step and the term.
        """
        if self._first is None:
            return
        ranks = comm.gather(self._first[None]).tolist()
        bad = [(step, name) for first in ranks for step, name in zip(first, self._names, strict=True) if step >= 0]
        if bad:
            step, name = min(bad)
            raise NonFiniteError(
                f"the term {name!r} was not finite at step {step}; the last checkpoint is from before that. "
                "Start again with a lower --lr or a lower weight of the method, and another --out."
            )

    @staticmethod
    def check_tensors(tensors: Iterable[tuple[str, Tensor]], step: int) -> None:
        """Refuse to save weights that a finite loss may already have spoilt.

        Raises:
            NonFiniteError: Names the first tensor.
        """
        named = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point()]
        finite = torch.stack([torch.isfinite(tensor).all() for _, tensor in named]).tolist()
        for (name, _), good in zip(named, finite, strict=True):
            if not good:
                raise NonFiniteError(
                    f"the weights {name!r} were not finite after step {step}; the last checkpoint is from before that. "
                    "Start again with a lower --lr and another --out."
                )
