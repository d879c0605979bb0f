"""From what was asked to the cells of a comparison: settings x methods x trials x seeds."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.catalog import Method, method_record
from holdfast.compare.asked import Asked
from holdfast.compare.cells import Cell, Setting
from holdfast.compare.contenders import Contender, read_contenders
from holdfast.compare.grids import Trial, read_trials
from holdfast.compare.identity import Fingerprints, cell_key
from holdfast.compare.lists import named_list, number_of, seed_list, share_list
from holdfast.config.layers import Layer
from holdfast.config.load import config_to_yaml_dict, resolve
from holdfast.config.plugins import load_plugin
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.terms import Needs

__all__ = ["Plan", "Search", "Shape", "expand", "read_shape"]

FIRST_TUNE_SEED = 1000
"""Trials are judged with seeds from here on, which are not those that are compared."""


@dataclass(frozen=True)
class Shape:
    """The axes of a comparison.

    Args:
        settings: What methods are compared on.
        contenders: What is compared.
        trials: Points of each one's grid by its label.
        seeds: Training seeds.
        data_seeds: Seeds of splits, each used with every training seed.
        tune_seeds: Training seeds of the trials.
        baseline: Label of the one that others are compared with.
    """

    settings: tuple[Setting, ...]
    contenders: tuple[Contender, ...]
    trials: Mapping[str, tuple[Trial, ...]]
    seeds: tuple[int, ...]
    data_seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...]
    baseline: str


@dataclass(frozen=True)
class Search:
    """The search of one method in one setting with one data seed: test images of one data seed may be training images of another.

    Args:
        tuning: Cells of each trial, which choose it.
        final: Cells that are compared if this trial is chosen.
    """

    method: str
    setting: Setting
    data_seed: int
    tuning: Mapping[str, tuple[Cell, ...]]
    final: Mapping[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Args:
        shape: What they were made from.
        fixed: Cells of methods that are not searched.
        searches: The others.
    """

    shape: Shape
    fixed: tuple[Cell, ...]
    searches: tuple[Search, ...]

    @property
    def tuning(self) -> list[Cell]:
        """The cells that choose trials."""
        return [cell for search in self.searches for cells in search.tuning.values() for cell in cells]

    @property
    def every(self) -> Iterator[Cell]:
        """All cells that may be made, the final ones of every trial among them."""
        yield from self.fixed
        for search in self.searches:
            for cells in (*search.tuning.values(), *search.final.values()):
                yield from cells

    @property
    def expected(self) -> list[Cell]:
        """As many cells as will be made, the first trial standing for whichever will be chosen."""
        return [*self.tuning, *self.fixed, *(cell for search in self.searches for cell in next(iter(search.final.values())))]


def read_shape(asked: Asked) -> Shape:
    """The axes of what was asked.

    Raises:
        ConfigError: One sentence on the first mistake.
    """
    _refuse_ranks()
    for layer in asked.shared:
        for file in _listed(layer.values.get("plugin", ())):
            load_plugin(file, layer.spell("plugin"))
    contenders = read_contenders(asked)
    trials = read_trials(asked, contenders)
    seeds = _seeds(asked, "seeds", range(5))
    labels = [contender.label for contender in contenders]
    baseline = asked.get("baseline") or labels[0]
    if baseline not in labels:
        raise ConfigError(f"{asked.spell('baseline')} {baseline}: is none of those that are compared: {', '.join(labels)}.")
    count = number_of(asked.get("tune_seeds") or 1, asked.spell("tune_seeds"))
    free = (seed for seed in itertools.count(FIRST_TUNE_SEED) if seed not in seeds)
    tune_seeds = tuple(itertools.islice(free, count))
    return Shape(tuple(_settings(asked)), contenders, trials, seeds, _seeds(asked, "data_seeds", (0,)), tune_seeds, baseline)


def expand(asked: Asked, shape: Shape, fingerprints: Callable[[FitConfig], Fingerprints]) -> Plan:
    """The cells.

    Args:
        asked: Where options come from.
        shape: The axes.
        fingerprints: Of the data and network of a run.

    Raises:
        ConfigError: The options of one of them do not fit together, or two methods are the same.
    """
    make = _Cells(asked, shape, fingerprints)
    fixed: list[Cell] = []
    searches: list[Search] = []
    for setting, data_seed in itertools.product(shape.settings, shape.data_seeds):
        for contender in shape.contenders:
            final = make.of_trials(contender, setting, data_seed, tuning=False)
            if "" in final:
                fixed += final[""]
                continue
            tuning = make.of_trials(contender, setting, data_seed, tuning=True)
            searches.append(Search(contender.label, setting, data_seed, tuning, final))
    _refuse_twins(fixed)
    # Seed by seed, so that what is finished early can be paired.
    return Plan(shape, tuple(sorted(fixed, key=lambda cell: shape.seeds.index(cell.seed))), tuple(searches))


@dataclass(frozen=True)
class _Cells:
    """Makes cells."""

    asked: Asked
    shape: Shape
    fingerprints: Callable[[FitConfig], Fingerprints]
    _resolved: dict[tuple[str, Setting, str], FitConfig] = field(default_factory=dict)

    def of_trials(self, contender: Contender, setting: Setting, data_seed: int, *, tuning: bool) -> dict[str, tuple[Cell, ...]]:
        """The cells of each trial of a method's grid by its name."""
        seeds = self.shape.tune_seeds if tuning else self.shape.seeds
        return {
            trial.name: tuple(self._cell(contender, setting, trial, seed, data_seed, tuning) for seed in seeds)
            for trial in self.shape.trials[contender.label]
        }

    def _cell(self, contender: Contender, setting: Setting, trial: Trial, seed: int, data_seed: int, tuning: bool) -> Cell:
        config = dataclasses.replace(self._config(contender, setting, trial), seed=seed, data_seed=data_seed)
        options = {key: value for key, value in config_to_yaml_dict(config).items() if key != "out"}
        key = cell_key(config, self.fingerprints(config))
        return Cell(contender.label, setting, seed, data_seed, trial.name, tuning, options, key)

    def _config(self, contender: Contender, setting: Setting, trial: Trial) -> FitConfig:
        """The options but seeds, which are resolved once."""
        at = (contender.label, setting, trial.name)
        if at not in self._resolved:
            self._resolved[at] = self._resolve(contender, setting, trial)
        return self._resolved[at]

    def _resolve(self, contender: Contender, setting: Setting, trial: Trial) -> FitConfig:
        place: dict[str, Any] = {"data": setting.data, "model": setting.model, "train_fraction": setting.fraction, "out": "runs"}
        values = {**place, "method": contender.method}
        plural = {"model": "models", "method": "methods", "train_fraction": "fractions"}
        door = dataclasses.replace(self.asked.layers[-1], values={})  # whose words stand for options that nobody gave
        given = {key: value for key, value in values.items() if value is not None}
        axes = dataclasses.replace(door, values=given, spell=lambda key: self.asked.spell(plural.get(key, key)))
        shared = [_without(layer, _of_no_use(contender, self.asked)) for layer in self.asked.shared]
        return resolve([*shared, axes, *contender.layers, trial.layer, door])


def _of_no_use(contender: Contender, asked: Asked) -> set[str]:
    """Options that fit refuses where a method has no use for them; in a comparison they are meant for those that have."""
    shared = {key: value for layer in asked.shared for key, value in layer.values.items()}
    records = [method_record(name) for name in contender.names]
    unused = set()
    if "source_data" in shared and not any("source" in _needs(record).extra for record in records):
        unused.add("source_data")
    by_matrix = shared.get("select") == "val-corrected" or shared.get("labels") == "robust"
    if "transition" in shared and not by_matrix and not any("transition" in record.all_options for record in records):
        unused.add("transition")
    return unused


def _needs(record: Method) -> Needs:
    found: Needs = record.load().NEEDS  # type: ignore[attr-defined]  # every term has them
    return found


def _without(layer: Layer, keys: set[str]) -> Layer:
    return dataclasses.replace(layer, values={key: value for key, value in layer.values.items() if key not in keys})


def _settings(asked: Asked) -> Iterator[Setting]:
    for key in ("data", "models"):
        if asked.get(key) is None:
            example = asked.layers[-1].example
            raise ConfigError(f"{asked.spell(key)} is missing" + (f"; for example: {example}" if example else "."))
    data = named_list(asked.get("data"), asked.spell("data"), divided=False)
    models = named_list(asked.get("models"), asked.spell("models"))
    fractions = share_list(asked.get("fractions"), asked.spell("fractions")) if asked.get("fractions") is not None else (None,)
    for where, model, fraction in itertools.product(data, models, fractions):
        yield Setting(where, model, fraction)


def _seeds(asked: Asked, key: str, default: Sequence[int]) -> tuple[int, ...]:
    value = asked.get(key)
    return tuple(default) if value is None else seed_list(value, asked.spell(key))


def _refuse_twins(cells: Sequence[Cell]) -> None:
    """Two names for the same runs would show no difference whatever the seeds."""
    first: dict[str, Cell] = {}
    for cell in cells:
        twin = first.setdefault(cell.key, cell)
        if twin.method != cell.method:
            raise ConfigError(f"{twin.method!r} and {cell.method!r} have the same options, so that their runs are the same; leave one out.")


def _refuse_ranks() -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("compare starts its own processes; start it without torchrun, as holdfast compare ...")


def _listed(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
