"""What the directory of a comparison holds: its record, and of each run the curves and predictions that are still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from holdfast.compare.record import FILE, Comparison, MethodRow, PairRow, RunRow
from holdfast.compare.record_file import read_comparison
from holdfast.report.scores import Scores
from holdfast.run import Run
from holdfast.wording import percent

__all__ = ["Compared", "Seeds", "SettingView", "is_comparison", "open_compared"]

Seeds: TypeAlias = tuple[int, int]
"""Data seed and training seed: what tells the cells of a method and setting apart."""


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Args:
        path: As it was given.
        comparison: Its record.
    """

    path: Path
    comparison: Comparison

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.resolve().name or str(self.path)

    @cached_property
    def settings(self) -> list[SettingView]:
        """Its settings, in order."""
        return [SettingView(self, place) for place in range(len(self.comparison.settings))]


@dataclass(frozen=True)
class SettingView:
    """One setting of a comparison, with what its run directories hold.

    Args:
        compared: The comparison.
        place: Of the setting.
    """

    compared: Compared
    place: int

    @property
    def name(self) -> str:
        """Data, network and share of the training split, in words."""
        row = self.compared.comparison.settings[self.place]
        share = "" if row.fraction is None else f" · {percent(row.fraction, 0)} of the training data"
        return f"{row.data} · {row.model}{share}"

    @property
    def baseline(self) -> str:
        """What the others are compared with."""
        return self.compared.comparison.baseline

    @cached_property
    def methods(self) -> list[MethodRow]:
        """Its methods, in the order of the record."""
        return list(self.compared.comparison.methods_of(self.place))

    @cached_property
    def pairs(self) -> list[PairRow]:
        """Its pairs."""
        return list(self.compared.comparison.pairs_of(self.place))

    @cached_property
    def against(self) -> dict[str, PairRow]:
        """Of each method the pair with the baseline."""
        return {row.a: row for row in self.pairs if row.b == self.baseline}

    @cached_property
    def runs(self) -> dict[str, dict[Seeds, RunRow]]:
        """The runs that are compared, by method and seeds."""
        found: dict[str, dict[Seeds, RunRow]] = {row.name: {} for row in self.methods}
        for run in self.compared.comparison.runs_of(self.place):
            found[run.method][run.data_seed, run.seed] = run
        return found

    @cached_property
    def histories(self) -> dict[str, list[Sequence[Mapping[str, Any]]]]:
        """The histories of each method's runs, as far as their directories are there."""
        return {name: [run.history for row in runs.values() if (run := self._open(row))] for name, runs in self.runs.items()}

    @cached_property
    def scores(self) -> dict[str, dict[Seeds, Scores]]:
        """What the predictions of each run say of the test split, as far as they are there."""
        found: dict[str, dict[Seeds, Scores]] = {}
        for name, runs in self.runs.items():
            read = {seeds: self._scores(row) for seeds, row in runs.items()}
            found[name] = {seeds: scores for seeds, scores in read.items() if scores is not None}
        return found

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, from the first run that is there."""
        for row in (row for runs in self.runs.values() for row in runs.values()):
            run = self._open(row)
            if run is not None:
                return [str(name) for name in run.result["data"]["classes"] or ()]
        return []

    def _scores(self, row: RunRow) -> Scores | None:
        run = self._open(row)
        predictions = run.load_predictions() if run is not None and run.has("predictions.npz") else {}
        return Scores.of("test", predictions["test"], len(self.classes)) if "test" in predictions else None

    def _open(self, row: RunRow) -> Run | None:
        """The run of a row, None where it has been moved or deleted."""
        path = self.compared.path / row.run
        return Run.open(path) if (path / "config.yaml").is_file() else None


def is_comparison(path: Path) -> bool:
    """Whether a directory is that of a comparison."""
    return (path / FILE).is_file()


def open_compared(path: Path) -> Compared:
    """Read the record of a comparison.

    Raises:
        RunError: It is damaged, or has another schema.
    """
    return Compared(path, read_comparison(path))
