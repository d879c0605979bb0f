"""State that a loss keeps for each training example: finding its row, and writing the rows of a step alike on every rank."""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.errors import DataError
from holdfast.types import Comm

__all__ = ["RowUpdates", "rows_of", "write_rows"]


def rows_of(examples: Tensor, index: Tensor) -> Tensor:
    """Which row of the state belongs to each example of a batch.

    Args:
        examples: Ranks of the ids (N,) of all training examples, sorted.
        index: Those of a batch (B,).

    Returns:
        Positions (B,) in ``examples``.

    Raises:
        DataError: One is no training example; on a GPU this is torch's own error, raised when its result is read.
    """
    rows = torch.searchsorted(examples, index).clamp(max=len(examples) - 1)
    known = examples[rows] == index
    if known.is_cuda:  # without waiting for the device
        torch._assert_async(known.all(), "a batch has an index that is none of the training examples'")
    elif not bool(known.all()):
        raise DataError(
            f"index: {int(index[~known][0])} is none of the {len(examples)} training examples; pass each example's place among all of "
            f"them, from {int(examples[0])} to {int(examples[-1])}"
        )
    return rows


def write_rows(state: Tensor, rows: Tensor, values: Tensor) -> None:
    """Set ``state[rows] = values``; of an example that occurs more than once, the last one counts, on every device."""
    ordered, order = rows.sort(stable=True)
    last = order[torch.searchsorted(ordered, rows, right=True) - 1]
    state[rows] = values[last].to(state.dtype)


class RowUpdates:
    """Rows collected over the micro-batches of a step, until the update is applied or thrown away."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, rows: Tensor, values: Tensor) -> None:
        """Collect values (B, …) for rows (B,)."""
        self._parts.append((rows, values.detach()))

    def apply(self, state: Tensor, comm: Comm) -> None:
        """Write what all ranks have collected, in the order of the global batch, so that all hold the same."""
        if self._parts:
            rows, values = (comm.gather(torch.cat(column)) for column in zip(*self._parts, strict=True))
            write_rows(state, rows, values)
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._parts = []
