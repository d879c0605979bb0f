"""Finding the first bad number without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from holdfast.errors import NonFiniteError
from holdfast.models.shards import own_part
from holdfast.types import Comm

__all__ = ["FiniteWatch"]


class FiniteWatch:
    """Remembers, on the device, the first step at which each term, and the gradient norm, was NaN or infinite.

    ``record`` launches a few tiny operations and never waits; ``check`` reads the result, every ``EVERY`` steps and before anything
    is saved.
    """

    EVERY = 50
    SMALLEST_SCALE = 2.0**-14
    """In fp16, a gradient that overflows even when scaled down this far is itself not finite."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}  # by kind: what is recorded together
        self._first: dict[str, Tensor] = {}  # by kind: (names,), -1 while all is well

    def record(self, values: Mapping[str, Tensor], step: int) -> None:
        """Take in the values of one forward pass; the terms are the same at every step."""
        self._note("term", tuple(values), torch.stack(list(values.values())), step)

    def record_gradient_norm(self, norm: Tensor, step: int) -> None:
        """Take in the gradient norm of an applied update."""
        self._note("gradient norm", ("",), norm[None], step)

    def _note(self, kind: str, names: tuple[str, ...], values: Tensor, step: int) -> None:
        bad = ~torch.isfinite(values)
        first = self._first[kind] if kind in self._first else torch.full_like(bad, -1, dtype=torch.int64)
        self._names[kind] = names
        self._first[kind] = torch.where(bad & (first < 0), step, first)

    def check(self, comm: Comm) -> None:
        """Stop the run, on all ranks together, if anything was bad on one of them.

        Raises:
            NonFiniteError: Names the first step and the term.
        """
        if not self._first:
            return
        # The terms come before the gradient norm, which suffers from them.
        called = [f"{kind} {name!r}" if name else kind for kind, names in self._names.items() for name in names]
        ranks = comm.gather(torch.cat(list(self._first.values()))[None]).tolist()
        bad = [(step, position) for first in ranks for position, step in enumerate(first) if step >= 0]
        if bad:
            step, position = min(bad)
            raise NonFiniteError(
                f"the {called[position]} was not finite at step {step}; the last checkpoint is from before that. "
                "Start again with a lower --lr or a lower weight of the method, and another --out."
            )

    @classmethod
    def check_scale(cls, scale: float, step: int) -> None:
        """Stop a run in fp16 whose updates are skipped without end.

        Raises:
            NonFiniteError: The loss scale has fallen so far that the gradients themselves must be NaN or infinite.
        """
        if scale < cls.SMALLEST_SCALE:
            raise NonFiniteError(
                f"the gradients were not finite at step {step} and before, however small the loss scale of fp16; none of them was used. "
                "Start again with --precision bf16 or fp32 to see which term it is, and another --out."
            )

    @staticmethod
    def check_tensors(tensors: Iterable[tuple[str, Tensor]], step: int, comm: Comm) -> None:
        """Refuse to save weights that a finite loss may already have spoilt, on all ranks together, which may hold parts of them.

        Raises:
            NonFiniteError: Names the first tensor.
        """
        named = [(name, own_part(tensor)) for name, tensor in tensors if tensor.is_floating_point()]
        bad = comm.sum(torch.stack([~torch.isfinite(tensor).all() for _, tensor in named]).long()).tolist()
        for (name, _), ranks in zip(named, bad, strict=True):
            if ranks:
                raise NonFiniteError(
                    f"the weights {name!r} were not finite after step {step}; the last checkpoint is from before that. "
                    "Start again with a lower --lr and another --out."
                )
