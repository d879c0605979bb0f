"""Which epoch's weights are kept, by each criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Chosen", "Selection"]


@dataclass(frozen=True)
class Chosen:
    """The best epoch so far by one criterion; epochs count from 1."""

    epoch: int
    step: int
    value: float


class Selection:
    """Best epochs by validation accuracy and loss, by further criteria, and by test accuracy where that is tracked.

    Ties go to the earliest.

    Example:
        >>> selection = Selection()
        >>> for epoch, accuracy in enumerate([0.5, 0.7, 0.7], start=1):
        ...     _ = selection.offer(epoch, step=epoch * 10, accuracy=accuracy, loss=1.0)
        >>> selection.best["val-accuracy"].epoch, selection.best["val-loss"].epoch
        (2, 1)
    """

    def __init__(self) -> None:
        self.best: dict[str, Chosen] = {}

    def offer(self, epoch: int, step: int, *, accuracy: float, loss: float, further: Mapping[str, float] = MappingProxyType({})) -> bool:
        """Compare an epoch with the best so far, ``further`` being criteria by name; whether its weights are to be kept."""
        # All are written as "larger is better", so one comparison serves; a loss of NaN would win or lose every comparison.
        by_accuracy = self._take("val-accuracy", Chosen(epoch, step, accuracy))
        by_loss = self._take("val-loss", Chosen(epoch, step, -math.inf if math.isnan(loss) else -loss))
        by_others = [self._take(by, Chosen(epoch, step, value)) for by, value in further.items()]
        return by_accuracy or by_loss or any(by_others)

    def offer_test(self, epoch: int, step: int, *, accuracy: float) -> bool:
        """As :meth:`offer`, by accuracy on the test split: an optimistic choice, for comparison with papers that made it."""
        return self._take("best-by-test", Chosen(epoch, step, accuracy))

    def _take(self, by: str, chosen: Chosen) -> bool:
        improved = by not in self.best or chosen.value > self.best[by].value
        if improved:
            self.best[by] = chosen
        return improved

    def epochs_without_better(self, by: str, epoch: int) -> int:
        """How many epochs up to ``epoch`` have passed since the best one by a criterion; 0 before the first."""
        return epoch - self.best[by].epoch if by in self.best else 0

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
