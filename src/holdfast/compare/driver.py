"""``holdfast.compare``: plan, make what is not finished, choose trials, and say what the runs show."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.compare.asked import Asked, keywords
from holdfast.compare.cells import Cell, Executor, Outcome
from holdfast.compare.events import Averaging, CellEnded, Event, Listener, Planned, Reading, TrialChosen, ignore
from holdfast.compare.folder import Folder
from holdfast.compare.forecast import Forecast, forecast
from holdfast.compare.identity import Identifier
from holdfast.compare.lists import number_of
from holdfast.compare.local_workers import LocalWorkers
from holdfast.compare.machine import share_cluster, share_out
from holdfast.compare.output import write_comparison
from holdfast.compare.plan import Plan, Search, expand, read_shape
from holdfast.compare.ray_cluster import check_address
from holdfast.compare.record import Comparison
from holdfast.compare.search import best_trial, mean_accuracies
from holdfast.compare.summary import summarize
from holdfast.config.values import typed_value
from holdfast.config.yaml_file import yaml_layer
from holdfast.errors import ConfigError, Interrupted, RunError
from holdfast.run import Run
from holdfast.training.interrupt import StopRequest, stop_on_signals

__all__ = ["compare", "compare_asked", "forecast_asked"]


def compare(
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    models: str | Sequence[str] | None = None,
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    listener: Listener = ignore,
    **options: Any,
) -> Comparison:
    """Compare methods over seeds on the same data, and write a directory with the runs and what they show; as ``holdfast compare``.

    Finished runs are found again, so that the same call goes on with a comparison that was stopped.

    Args:
        data: One or more datasets.
        models: One or more networks.
        methods: Names of methods and baselines, or ``{"name": …, "method": …, option: …}``.
        out: The directory of the comparison.
        config: YAML file; keywords win over it.
        listener: Called with each event (:mod:`holdfast.compare.events`).
        options: ``seeds``, ``data_seeds``, ``fractions``, ``grid``, ``tune_seeds``, ``baseline``, ``every_pair``, ``average``,
            ``workers``, ``ray``, ``storage``, and any option of ``holdfast fit``, which all runs share.

    Returns:
        What the runs show: ``comparison.pairs``, ``comparison.methods``, ``comparison.failures``.

    Raises:
        HoldfastError: Something cannot be used as it is; nothing has been trained then.
        Interrupted: A signal asked to stop; every run that was being made has written a checkpoint.
    """
    named = {"data": _as_text(data), "models": models, "methods": methods, "out": None if out is None else str(out)}
    layers = [keywords({key: value for key, value in {**named, **options}.items() if value is not None})]
    if config is not None:
        layers.insert(0, yaml_layer(str(config)))
    return compare_asked(Asked.of(layers), listener=listener)


def forecast_asked(asked: Asked, *, listener: Listener = ignore) -> Forecast:
    """What :func:`compare_asked` would make and take; nothing is written.

    Raises:
        HoldfastError: :func:`compare_asked` would raise it too.
    """
    return _Comparing(asked, listener).forecast()


def compare_asked(asked: Asked, *, listener: Listener = ignore) -> Comparison:
    """:func:`compare`, from what was asked on whichever way."""
    comparing = _Comparing(asked, listener)
    comparing.folder.begin_if_there()
    try:
        return comparing.run()
    finally:
        comparing.folder.end()


class _Comparing:
    """One start of a comparison."""

    def __init__(self, asked: Asked, listener: Listener) -> None:
        self.asked, self.listener = asked, listener
        self.shape = read_shape(asked)
        self.folder = Folder(_out(asked))
        self._check_cluster()
        self.workers = None if asked.get("workers") is None else number_of(asked.get("workers"), asked.spell("workers"))
        self.average = asked.switch("average", default=True)
        self.outcomes: dict[str, Outcome] = {}
        self.finished: dict[str, Run] = {}

    def forecast(self) -> Forecast:
        """Plan, and try what is not known to work."""
        self.listener(Reading())
        identifier = Identifier()
        plan = expand(self.asked, self.shape, identifier.fingerprints)
        self.data = identifier.data_seen
        _refuse_other_data(self.folder, self.data)
        for cell in plan.every:
            if (run := self.folder.finished(cell)) is not None:
                self.finished[cell.key] = run
        remaining = {cell.key for cell in plan.expected} - self.finished.keys()
        self.device = str(plan.expected[0].options["device"])
        threads, ray = self._threads(plan), self.asked.get("ray")
        if ray is None:
            self.share = share_out(self.device, workers=self.workers, threads=threads, runs=len(remaining))
        else:
            self.share = share_cluster(self.device, str(ray), workers=self.workers, threads=threads)
        plan = _with_threads(plan, self.share.threads)
        return forecast(plan, self.finished, self.folder.path, workers=self.share.workers, device=self.share.words, listener=self.listener)

    def run(self) -> Comparison:
        """Make what is not finished, and write what the runs show."""
        found = self.forecast()
        self.listener(Planned(found))
        self.folder.begin()
        threads = {} if self.share.threads is None else {"threads": self.share.threads}
        self.folder.write_asked({**self.asked.complete(), **threads}, self.data)
        self.clock = _Clock(found)
        if found.remaining:
            with stop_on_signals() as stop:
                self._make_all(found.plan, self._executor(stop), stop)
        cells = self._chosen_cells(found.plan, announce=not found.remaining)
        self.folder.write_failures(list(self.outcomes.values()))
        every_pair = self.asked.switch("every_pair", default=False)
        outcomes = list(self.outcomes.values())
        comparison = summarize(cells, self.folder.path, baseline=self.shape.baseline, every_pair=every_pair, outcomes=outcomes)
        write_comparison(self.folder.path, comparison)
        if self.average:
            self._average(cells)
        from holdfast.report import write_report  # it brings matplotlib with it

        write_report([self.folder.path])
        return comparison

    def _average(self, cells: Sequence[Cell]) -> None:
        from holdfast.averaging.comparison import average_comparison

        self.listener(Averaging())
        average_comparison(self.folder.path, cells, device=self.device)

    def _make_all(self, plan: Plan, executor: Executor, stop: StopRequest) -> None:
        try:
            self._make([*plan.tuning, *plan.fixed], executor, stop)
            self._make(self._chosen_cells(plan, announce=True), executor, stop)
        finally:
            executor.close()

    def _make(self, cells: Sequence[Cell], executor: Executor, stop: StopRequest) -> None:
        todo = {cell.key: cell for cell in cells if cell.key not in self.finished and cell.key not in self.outcomes}
        for outcome in executor.run(list(todo.values())):
            self._note(outcome)
            if outcome.stops:
                executor.close()
                raise RunError(f"{outcome.error}. The comparison has stopped; {self._how_to_go_on()}")
        if stop:
            raise Interrupted(f"stopped by {stop.signal}; {self._how_to_go_on()}")

    def _note(self, outcome: Outcome) -> None:
        cell, accuracy = outcome.cell, None
        self.outcomes[cell.key] = outcome
        if outcome.error is None and (run := self.folder.finished(cell)) is not None:
            self.finished[cell.key] = run
            metrics = run.val if cell.tuning else run.test
            accuracy = None if metrics is None else metrics.accuracy
        elif not outcome.stops:
            self.folder.write_failures(list(self.outcomes.values()))
        self.listener(self.clock.tell(outcome, accuracy))

    def _chosen_cells(self, plan: Plan, *, announce: bool) -> list[Cell]:
        """All cells with the trials that were chosen, method by method."""
        chosen = [*plan.fixed]
        for search in plan.searches:
            chosen += [cell for cells in search.tuning.values() for cell in cells]
            chosen += self._final(search, announce=announce)
        order = [contender.label for contender in self.shape.contenders]
        return sorted(chosen, key=lambda cell: order.index(cell.method))

    def _final(self, search: Search, *, announce: bool) -> tuple[Cell, ...]:
        means = mean_accuracies(search.tuning, self._validated)
        trial = best_trial(means)
        if announce:
            mean = None if trial is None else means[trial]
            self.listener(TrialChosen(search.method, search.setting, search.data_seed, trial, mean, len(search.tuning)))
        if trial is not None:
            return search.final[trial]
        cells = next(iter(search.final.values()))
        for cell in cells:
            self.outcomes.setdefault(cell.key, Outcome(cell, "no trial of its search could be trained", 0.0, 0))
        return cells

    def _validated(self, cell: Cell) -> float | None:
        run = self.finished.get(cell.key)
        return run.val.accuracy if run is not None and run.val is not None else None

    def _check_cluster(self) -> None:
        """Before anything takes time."""
        address, storage = self.asked.get("ray"), self.asked.get("storage")
        if address is not None:
            check_address(str(address), spelled=self.asked.spell("ray"))
        elif storage is not None:
            raise ConfigError(f"{self.asked.spell('storage')} {storage}: only runs on a cluster need it; add --ray, or leave it out.")

    def _executor(self, stop: StopRequest) -> Executor:
        address = self.asked.get("ray")
        if address is None:
            return LocalWorkers(self.folder.path, self.share.workers, stop=stop, devices=self.share.devices, threads=self.share.threads)
        from holdfast.compare.ray_workers import RayWorkers

        options: dict[str, Any] = {"device": self.device, "count": self.workers, "storage": self.asked.get("storage")}
        return RayWorkers(self.folder.path, address=str(address), stop=stop, cpus=self.share.threads or 1, **options)

    def _threads(self, plan: Plan) -> int | None:
        """As asked now, or as it was when the comparison began: the last digits of a run may depend on it."""
        given = next(iter(plan.expected)).options["threads"] or self.folder.asked.get("threads")
        return None if given is None else int(typed_value("threads", given, self.asked.spell("threads")))

    def _how_to_go_on(self) -> str:
        failed = sum(outcome.error is not None for outcome in self.outcomes.values())
        done = f"{self.clock.done - failed} of {self.clock.total} runs are finished"
        return f"{done}, and those that were begun go on from their checkpoints: type `{self.folder.go_on_command}`"


def _as_text(data: str | Path | Sequence[str | Path] | None) -> list[str] | None:
    if data is None:
        return None
    return [str(entry) for entry in ([data] if isinstance(data, str | Path) else data)]


def _out(asked: Asked) -> str:
    out = asked.get("out")
    if out is None:
        example = asked.layers[-1].example
        raise ConfigError(f"{asked.spell('out')} is missing" + (f"; for example: {example}" if example else "."))
    return str(out)


def _with_threads(plan: Plan, threads: int | None) -> Plan:
    """The cells with the threads that each process has, where nobody else has decided."""

    def given(cells: Sequence[Cell]) -> tuple[Cell, ...]:
        return tuple(dataclasses.replace(cell, options={**cell.options, "threads": cell.options["threads"] or threads}) for cell in cells)

    searches = [
        dataclasses.replace(
            search,
            tuning={name: given(cells) for name, cells in search.tuning.items()},
            final={name: given(cells) for name, cells in search.final.items()},
        )
        for search in plan.searches
    ]
    return dataclasses.replace(plan, fixed=given(plan.fixed), searches=tuple(searches))


def _refuse_other_data(folder: Folder, data: Mapping[str, str]) -> None:
    """A directory belongs to one comparison; one on other data altogether is another."""
    before = folder.data
    if before and not set(before.values()) & set(data.values()):
        raise RunError(f"--out {folder.path}: holds a comparison on other data ({', '.join(before)}); choose another --out")


class _Clock:
    """How far a comparison is, and how long the rest will take, as far as runs that have ended tell."""

    def __init__(self, found: Forecast) -> None:
        self._forecast = found
        self._left = {cell.key: cell for cell in found.remaining}
        self._estimated = self._taken = 0.0
        self.done, self.total = found.finished, found.total

    def tell(self, outcome: Outcome, accuracy: float | None) -> Event:
        cell = outcome.cell
        self.done += 1
        self._left.pop(cell.key, None)
        estimated = self._seconds([cell])
        if outcome.error is None and estimated is not None:
            self._estimated += estimated
            self._taken += outcome.seconds
        return CellEnded(outcome, accuracy, self.done, self.total, self._seconds_left())

    def _seconds_left(self) -> float | None:
        left = list(itertools.islice(self._left.values(), self.total - self.done))
        seconds = self._seconds(left)
        if seconds is None:
            return None
        ratio = self._taken / self._estimated if self._estimated else 1.0
        return seconds * ratio / max(1, min(self._forecast.workers, len(left)))

    def _seconds(self, cells: Sequence[Cell]) -> float | None:
        known = self._forecast.estimates
        return sum(known[cell.setting, cell.method].seconds for cell in cells if (cell.setting, cell.method) in known)
