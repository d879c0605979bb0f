"""What a comparison will take, before it begins: every method is tried on every setting, so that what cannot work is known now."""

from __future__ import annotations

import dataclasses
import gc
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.compare.cells import Cell, Setting
from holdfast.compare.events import Listener, Probing
from holdfast.compare.plan import Plan
from holdfast.config.layers import from_yaml
from holdfast.config.load import resolve
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError, DataError, HoldfastError
from holdfast.run import Run

__all__ = ["Estimate", "Forecast", "forecast"]

MIB = 2**20
ENOUGH_SECONDS = 60.0
"""Once trying has taken this long, further methods of a setting are checked and no longer timed."""

Place = tuple[Setting, str]
"""A setting, and the label of a method."""


@dataclass(frozen=True)
class Estimate:
    """What a run of a method in a setting takes.

    Args:
        seconds: From its start to its end.
        disk: MiB of its directory, finished.
        largest: MiB of it at most while it trains.
        source: ``finished`` runs of it, ``timed`` steps, or those of ``another`` method.
    """

    seconds: float
    disk: float
    largest: float
    source: str


@dataclass(frozen=True)
class Forecast:
    """A comparison before it begins.

    Args:
        plan: Its runs.
        finished: How many of them are.
        remaining: Those that are not.
        estimates: What a run takes, where one remains.
        workers: How many are made at the same time.
        device: Where, in words.
        free: MiB that are free for the directory.
    """

    plan: Plan
    finished: int
    remaining: tuple[Cell, ...]
    estimates: Mapping[Place, Estimate]
    workers: int
    device: str
    free: float

    @property
    def total(self) -> int:
        """Runs there will be."""
        return self.finished + len(self.remaining)

    def seconds_of(self, cells: Iterable[Cell]) -> float:
        """What runs take one after the other."""
        return sum(self.estimates[cell.setting, cell.method].seconds for cell in cells)

    @property
    def seconds(self) -> float:
        """What the remaining runs take, by all workers together."""
        return self.seconds_of(self.remaining) / max(1, min(self.workers, len(self.remaining)))

    @property
    def disk(self) -> float:
        """MiB that the remaining runs need."""
        found = [self.estimates[cell.setting, cell.method] for cell in self.remaining]
        on_the_way = sorted((entry.largest - entry.disk for entry in found), reverse=True)[: self.workers]
        return sum(entry.disk for entry in found) + sum(on_the_way)


def forecast(plan: Plan, finished: Mapping[str, Run], folder: Path, *, workers: int, device: str, listener: Listener) -> Forecast:
    """Try what is not known to work, and add up what is left.

    Args:
        plan: The runs.
        finished: Those that are finished by their key.
        folder: The directory of the comparison.
        workers: How many are made at the same time.
        device: Where, in words.
        listener: Called before a method is tried.

    Raises:
        HoldfastError: A method cannot be trained on a setting, and the message says which and why.
    """
    cells = list({cell.key: cell for cell in plan.expected}.values())
    remaining = tuple(cell for cell in cells if cell.key not in finished)
    known = _of_finished([cell for cell in plan.every if cell.key in finished], finished)
    searched = {search.method for search in plan.searches}
    wanted = list(dict.fromkeys((cell.setting, cell.method) for cell in remaining))
    first = {place: next(cell for cell in remaining if (cell.setting, cell.method) == place) for place in wanted}
    with _each_message_once():
        tried = _try([first[place] for place in wanted if place not in known], searched, folder, listener)
    estimates = {place: known.get(place) or tried[place] for place in wanted}
    parent = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(parent).free / MIB
    return Forecast(plan, len(cells) - len(remaining), remaining, estimates, workers, device, free)


def _of_finished(cells: Sequence[Cell], runs: Mapping[str, Run]) -> dict[Place, Estimate]:
    """What a finished run of each place has taken."""
    found: dict[Place, Estimate] = {}
    for cell in cells:
        if (cell.setting, cell.method) not in found:
            run = runs[cell.key]
            size = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()) / MIB
            found[cell.setting, cell.method] = Estimate(float(run.result["cost"]["seconds_total"] or 0.0), size, 2 * size, "finished")
    return found


def _try(cells: Sequence[Cell], searched: Iterable[str], folder: Path, listener: Listener) -> dict[Place, Estimate]:
    began = time.monotonic()
    found: dict[Place, Estimate] = {}
    timed: dict[Setting, Estimate] = {}
    for cell in cells:
        listener(Probing(cell.method, cell.setting))
        hasty = cell.setting in timed and time.monotonic() - began > ENOUGH_SECONDS
        try:
            estimate = None if hasty else _time(_config(cell, folder), searched=cell.method in set(searched))
            if estimate is None:
                _check(_config(cell, folder))
        except HoldfastError as error:
            raise type(error)(f"{cell.method} on {_words(cell.setting)}: {error}") from error
        estimate = estimate or dataclasses.replace(timed[cell.setting], source="another")
        timed.setdefault(cell.setting, estimate)
        found[cell.setting, cell.method] = estimate
        gc.collect()
    return found


def _config(cell: Cell, folder: Path) -> FitConfig:
    out = str(folder / "runs" / f"{cell.key}-tried")  # a name for messages; nothing is written there
    return resolve([from_yaml(f"cell {cell.key}", {**cell.options, "out": out})])


def _time(config: FitConfig, *, searched: bool) -> Estimate:
    from holdfast.recipes import plan_config

    plan = plan_config(config)
    if not plan.n_test:
        raise DataError(f"{config.data}: there is no test split, on which methods are compared; give one, or name it with --test-split.")
    if searched and not plan.n_val:
        raise ConfigError("--grid: trials are chosen on the validation split, and there is none; give --val-fraction, such as 0.1.")
    return Estimate(plan.time.total, plan.disk.finished, plan.disk.training, "timed")


def _check(config: FitConfig) -> None:
    """What :func:`_time` finds out without training a step; splits do not depend on the method."""
    from holdfast.parts import Parts, make_engine

    if config.labels == "robust":
        from holdfast.recipes.robust_labels import before_estimate

        config = before_estimate(config)
    Parts.build(config, make_engine(config))


def _words(setting: Setting) -> str:
    fraction = "" if setting.fraction is None else f", {setting.fraction:g} of train"
    return f"{setting.data} with {setting.model}{fraction}"


@contextmanager
def _each_message_once() -> Iterator[None]:
    """What is said of the data by one method need not be said by all of them."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in said
        said.add(text)
        return new

    logger = logging.getLogger("holdfast")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
