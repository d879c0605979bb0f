"""Which epoch's weights are kept, by each criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Chosen", "Selection"]


@dataclass(frozen=True)
class Chosen:
    """The best epoch so far by one criterion; epochs count from 1."""

    epoch: int
    step: int
    value: float


class Selection:
    """Best epochs by validation accuracy and loss; ties go to the earliest.

    Example:
        >>> selection = Selection()
        >>> for epoch, accuracy in enumerate([0.5, 0.7, 0.7], start=1):
        ...     _ = selection.offer(epoch, step=epoch * 10, accuracy=accuracy, loss=1.0)
        >>> selection.best["val-accuracy"].epoch, selection.best["val-loss"].epoch
        (2, 1)
    """

    def __init__(self) -> None:
        self.best: dict[str, Chosen] = {}

    def offer(self, epoch: int, step: int, *, accuracy: float, loss: float) -> bool:
        """Compare an epoch with the best so far; whether its weights are to be kept."""
        improved = False
        # Both are written as "larger is better", so one comparison serves; a loss of NaN would win or lose every comparison.
        for by, value in (("val-accuracy", accuracy), ("val-loss", -math.inf if math.isnan(loss) else -loss)):
            if by not in self.best or value > self.best[by].value:
                self.best[by] = Chosen(epoch, step, value)
                improved = True
        return improved

    @property
    def epochs(self) -> set[int]:
        """Epochs whose weights are still wanted."""
        return {chosen.epoch for chosen in self.best.values()}

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {by: asdict(chosen) for by, chosen in self.best.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.best = {by: Chosen(**chosen) for by, chosen in state.items()}
