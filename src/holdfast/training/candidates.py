"""The weights a run may end with: the trained ones and their average, after the last epoch and after the best ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from holdfast.config.schema import FitConfig
from holdfast.training.ema import WeightAverage
from holdfast.training.selection import Chosen, Selection

__all__ = ["Candidates"]


class Candidates:
    """Keeps the moving average, where there is one, and remembers the best epochs of each form of the weights.

    ``forms`` are ``raw`` (the trained weights) and, with ``--ema``, ``ema`` (their average).

    Args:
        net: The network, on its device.
        config: Its ``ema``, ``select``, ``select_weights`` and ``patience`` are looked at.
    """

    def __init__(self, net: nn.Module, config: FitConfig) -> None:
        self.average = None if config.ema is None else WeightAverage(net, config.ema)
        self.forms = ("raw",) if config.ema is None else ("raw", "ema")
        self.selections = {form: Selection() for form in self.forms}
        self._net = net
        self._config = config

    def using(self, form: str) -> AbstractContextManager[None]:
        """Inside the block the network has the weights of this form."""
        return nullcontext() if self.average is None or form == "raw" else self.average.applied()

    def weights(self, form: str) -> dict[str, Tensor]:
        """The network's state dict with the weights of this form, not copied."""
        return self._net.state_dict() if self.average is None or form == "raw" else self.average.weights()

    @property
    def wanted(self) -> set[tuple[int, str]]:
        """Epoch and form of all weights that a selection points at."""
        return {(epoch, form) for form, selection in self.selections.items() for epoch in selection.epochs}

    @property
    def best(self) -> Chosen:
        """The best epoch so far by ``--select`` and ``--select-weights``."""
        return self.selections[self._config.primary_weights].best[self._config.select]

    def out_of_patience(self, epoch: int) -> bool:
        """Whether ``--patience`` has run out after so many epochs; nothing but the selections decides, so a resumed run knows it too."""
        if self._config.patience is None:
            return False
        selection = self.selections[self._config.primary_weights]
        return selection.epochs_without_better(self._config.select, epoch) >= self._config.patience

    def state_dict(self) -> dict[str, Any]:
        """Average and selections for a checkpoint."""
        return {
            "average": None if self.average is None else self.average.state_dict(),
            "selections": {form: selection.state_dict() for form, selection in self.selections.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for form, selection in self.selections.items():
            selection.load_state_dict(state["selections"][form])
