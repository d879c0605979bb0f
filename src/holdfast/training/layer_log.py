"""What terms say of single layers, written after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.objective import WeightedTerm
from holdfast.run import Run
from holdfast.terms import Term
from holdfast.types import Comm

__all__ = ["LayerLog"]


@dataclass(frozen=True)
class LayerLog:
    """Writes ``layers.csv``: one row for each epoch, term and layer, where a term has numbers of layers.

    They are apart from ``history.csv``, since a network has hundreds of layers; the terms' summary of them is there.

    Args:
        run: Where the rows go; rank 0 writes them.
        terms: The terms of the objective.
        comm: Communication between ranks.
    """

    run: Run
    terms: Sequence[WeightedTerm]
    comm: Comm

    @property
    def name(self) -> str:
        """What is written."""
        return "layers"

    @property
    def wanted(self) -> bool:
        """Whether a term has numbers of layers."""
        return any(type(weighted.term).by_layer is not Term.by_layer for weighted in self.terms)

    def rewind(self, step: int) -> None:
        """Forget the rows beyond ``step`` optimizer steps, from which training goes on."""
        if self.comm.rank == 0:
            self.run.truncate_layers(step)

    def measure(self, epoch: int, step: int) -> Mapping[str, float]:
        """Write the rows of an epoch; nothing is announced."""
        if self.comm.rank == 0:
            rows = [
                {"epoch": epoch, "step": step, "term": weighted.name, "layer": layer, **numbers}
                for weighted in self.terms
                for layer, numbers in weighted.term.by_layer().items()
            ]
            if rows:
                self.run.append_layers(rows)
        return {}
