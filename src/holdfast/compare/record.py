"""What ``comparison.json`` holds, schema 1, as objects. Accuracies and what is computed of them are shares, not percent.

None stands for a number that is not known. Rows of ``methods`` and ``pairs`` belong to a setting by its place in ``settings``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.compare.cells import Setting
from holdfast.compare.statistics import Verdict
from holdfast.run import SplitMetrics

__all__ = [
    "FILE",
    "SCHEMA",
    "Comparison",
    "CostRow",
    "DataSeeds",
    "Failure",
    "Interval",
    "MethodRow",
    "Metrics",
    "Overall",
    "OverallMethod",
    "OverallPair",
    "PairRow",
    "RunRow",
    "Selection",
    "SettingRow",
]

FILE: Final = "comparison.json"
SCHEMA: Final = 1

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Selection:
    """The accuracies of the weights that one criterion picks: ``by`` in the words of ``--select``, or ``best-by-test``.

    ``optimistic`` marks the one that was picked by the test examples it is judged on; it is never compared.
    """

    by: str
    epoch: int | None
    weights: str
    optimistic: bool
    val: float | None
    test: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a run reached with its primary selection, and what each selection would have given, the primary one first."""

    test: SplitMetrics | None
    val: SplitMetrics | None
    selections: tuple[Selection, ...]


@dataclass(frozen=True, slots=True)
class CostRow:
    """What a run took; ``extra_data`` names data beside the training split that it used, such as clean labels of validation."""

    device: str | None
    steps: int | None
    seconds_per_step: float | None
    seconds_total: float | None
    peak_memory_mib: float | None
    extra_data: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A finished run. ``run`` is its directory below that of the comparison; one with ``tuning`` chose a trial and is not compared."""

    method: str
    data: str
    model: str
    fraction: float | None
    seed: int
    data_seed: int
    trial: str
    tuning: bool
    run: str
    metrics: Metrics
    cost: CostRow

    @property
    def setting(self) -> Setting:
        """What it was compared on."""
        return Setting(self.data, self.model, self.fraction)

    @property
    def accuracy(self) -> float | None:
        """The number that methods are compared by: test accuracy of the primary selection."""
        return self.metrics.test.accuracy if self.metrics.test else None


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that is not there: ``error`` says why in a sentence, None where it was not begun or is not finished."""

    method: str
    data: str
    model: str
    fraction: float | None
    seed: int
    data_seed: int
    trial: str
    tuning: bool
    run: str
    error: str | None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting. Over the ``n`` cells that all methods have: Friedman's p value, and by how much mean ranks must differ (Nemenyi)."""

    data: str
    model: str
    fraction: float | None
    n: int
    friedman_p: float | None
    critical_difference: float | None


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A method in one setting: means over its ``n`` runs.

    ``std`` and ``ci95`` are those of test accuracy over its cells. ``rank`` is its mean rank over the cells that all methods have.
    ``selections`` has the mean test accuracy by each criterion. ``peak_memory_mib`` is the largest. ``trial`` is what its search chose
    among ``trials`` points; ``tuning_runs`` took ``tuning_seconds`` together.
    """

    setting: int
    name: str
    n: int
    mean: float | None
    std: float | None
    ci95: Interval | None
    rank: float | None
    val_accuracy: float | None
    macro_f1: float | None
    nll: float | None
    ece: float | None
    selections: Mapping[str, float | None]
    seconds_per_step: float | None
    seconds_total: float | None
    peak_memory_mib: float | None
    extra_data: tuple[str, ...]
    trial: str
    trials: int
    tuning_runs: int
    tuning_seconds: float


@dataclass(frozen=True, slots=True)
class DataSeeds:
    """The same difference over data seeds, training seeds averaged first: what it says of other draws of the data."""

    n: int
    ci95: Interval | None
    p: float | None

    @property
    def confirms(self) -> bool:
        """Whether the interval excludes 0."""
        return self.ci95 is not None and (self.ci95[0] > 0 or self.ci95[1] < 0)


@dataclass(frozen=True, slots=True)
class PairRow:
    """Method ``a`` against method ``b`` in one setting, over the ``n`` cells that both have.

    ``difference`` is the mean of a minus b, ``ci95`` its paired t interval, ``ci_holm`` the interval that excludes 0 exactly where there
    is a verdict, ``p`` and ``p_holm`` the p value without and with Holm's correction over the pairs of the setting. ``wins``, ``ties``
    and ``losses`` count cells. ``data_seeds`` is there where data seeds have several training seeds. ``note`` says what is to be known.
    """

    setting: int
    a: str
    b: str
    n: int
    difference: float | None
    std: float | None
    ci95: Interval | None
    ci_holm: Interval | None
    p: float | None
    p_holm: float | None
    wins: int
    ties: int
    losses: int
    verdict: Verdict
    data_seeds: DataSeeds | None
    note: str

    @property
    def for_these_draws(self) -> bool:
        """Whether the verdict holds for the draws of the data that were compared, and the interval over data seeds does not confirm it."""
        return self.verdict != "no difference shown" and self.data_seeds is not None and not self.data_seeds.confirms


@dataclass(frozen=True, slots=True)
class OverallMethod:
    """A method over the settings that all methods have: its mean rank."""

    name: str
    rank: float | None


@dataclass(frozen=True, slots=True)
class OverallPair:
    """Two methods over settings.

    ``wins``, ``ties`` and ``losses`` count settings by the mean difference; ``better`` and ``worse`` those with such a verdict.
    ``difference`` is the mean over datasets, and ``p`` and ``p_holm`` are Wilcoxon's over ``n_datasets``, None below six.
    """

    a: str
    b: str
    n: int
    n_datasets: int
    difference: float | None
    wins: int
    ties: int
    losses: int
    better: int
    worse: int
    p: float | None
    p_holm: float | None
    verdict: Verdict
    note: str


@dataclass(frozen=True, slots=True)
class Overall:
    """All settings together; ranks over the ``n`` of them that all methods have."""

    n: int
    n_datasets: int
    friedman_p: float | None
    critical_difference: float | None
    methods: tuple[OverallMethod, ...]
    pairs: tuple[OverallPair, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison has shown; ``overall`` is there for several settings. ``notes`` are sentences for whoever reads the numbers."""

    baseline: str
    every_pair: bool
    runs: tuple[RunRow, ...]
    settings: tuple[SettingRow, ...]
    methods: tuple[MethodRow, ...]
    pairs: tuple[PairRow, ...]
    overall: Overall | None
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

    def methods_of(self, setting: int) -> Iterator[MethodRow]:
        """The methods of the setting at a place."""
        return (row for row in self.methods if row.setting == setting)

    def pairs_of(self, setting: int) -> Iterator[PairRow]:
        """The pairs of the setting at a place."""
        return (row for row in self.pairs if row.setting == setting)

    def pair_notes(self, setting: int) -> list[str]:
        """What is to be known of pairs of the setting at a place, pairs of which the same is to be known together."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self.pairs_of(setting):
            if row.note:
                found.setdefault((row.b, row.note), []).append(row.a)
        return [f"{', '.join(names)} against {other}: {note}" for (other, note), names in found.items()]

    def runs_of(self, setting: int) -> Iterator[RunRow]:
        """The runs that are compared in the setting at a place, without those that only tuned."""
        row = self.settings[setting]
        return (run for run in self.runs if not run.tuning and run.setting == Setting(row.data, row.model, row.fraction))
