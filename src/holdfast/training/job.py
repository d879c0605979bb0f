"""What a training works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.config.schema import FitConfig
from holdfast.data import RunData
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.objective import WeightedTerm
from holdfast.run import Run
from holdfast.training.callbacks import Callback
from holdfast.training.criteria import Criterion
from holdfast.training.engine import Engine
from holdfast.training.events import Listener

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """Everything a training needs, built.

    ``fingerprints`` (config, data, reference) are stored in each checkpoint and compared when one is loaded.
    """

    run: Run
    config: FitConfig
    data: RunData
    classifier: Classifier
    reference: FrozenReference
    terms: Sequence[WeightedTerm]
    reference_layers: Sequence[str]
    engine: Engine
    listener: Listener
    fingerprints: dict[str, str]
    callbacks: Sequence[Callback] = ()
    source_data: RunData | None = None  # rows of it join every batch, where a method asks for them
    criteria: Mapping[str, Criterion] = field(default_factory=dict)  # of validation, beside accuracy and loss

    @property
    def views(self) -> int:
        """Further augmented views of each batch that the methods ask for."""
        return max(weighted.term.NEEDS.views for weighted in self.terms)
