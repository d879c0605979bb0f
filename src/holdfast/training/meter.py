"""Running means over an epoch, kept on the device until someone reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from holdfast.objective import ObjectiveOutput
from holdfast.types import Batch, Comm

__all__ = ["Meter"]


class Meter:
    """Sums of each term, of the total loss, of correct predictions and of gradient norms since the last reset, in float64."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None  # total, terms…, correct, rows
        self._norms: Tensor | None = None  # sum, count

    def add(self, output: ObjectiveOutput, batch: Batch, micro_batches: int) -> None:
        """Take in one forward pass."""
        rows = len(batch)
        correct = (output.logits.argmax(dim=1) == batch.labels).sum()
        total = output.total.detach() * micro_batches
        values = torch.stack([total, *output.values.values()]).double() * rows
        sums = torch.cat([values, torch.stack([correct, torch.full_like(correct, rows)]).double()])
        self._names = tuple(output.values)
        self._sums = sums if self._sums is None else self._sums + sums

    def add_gradient_norm(self, norm: Tensor) -> None:
        """Take in the gradient norm of an applied update, which all ranks have in common."""
        one = torch.stack([norm.detach().double(), torch.ones_like(norm, dtype=torch.float64)])
        self._norms = one if self._norms is None else self._norms + one

    def read(self, comm: Comm) -> dict[str, float]:
        """Means over all ranks: ``loss``, one entry a term, ``train_accuracy``, and ``gradient_norm`` where norms were taken in."""
        if self._sums is None:
            return {}
        total, *terms, correct, rows = comm.sum(self._sums).tolist()
        means = {
            "loss": total / rows,
            **{name: value / rows for name, value in zip(self._names, terms, strict=True)},
            "train_accuracy": correct / rows,
        }
        if self._norms is not None:
            norm, count = self._norms.tolist()
            means["gradient_norm"] = norm / count
        return means

    def reset(self) -> None:
        """Start a new epoch."""
        self._sums = self._norms = None

    def state_dict(self) -> dict[str, Any]:
        """Sums of this rank for a checkpoint inside an epoch."""
        return {"names": list(self._names), "sums": _on_host(self._sums), "norms": _on_host(self._norms)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._names = tuple(state["names"])
        self._sums, self._norms = (None if state[key] is None else state[key].to(device) for key in ("sums", "norms"))


def _on_host(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()
