"""From the finished runs of a comparison to what they show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from holdfast.compare.cells import Cell, Outcome, Setting
from holdfast.compare.collect import collect
from holdfast.compare.methods import method_row, setting_row
from holdfast.compare.overall import overall
from holdfast.compare.pairs import family, paired_rows, scores_of
from holdfast.compare.record import Comparison, Failure, MethodRow, PairRow, RunRow, SettingRow
from holdfast.errors import ConfigError, suggest

__all__ = ["compare_rows", "summarize"]


def summarize(
    cells: Sequence[Cell], folder: str | Path, *, baseline: str | None = None, every_pair: bool = False, outcomes: Sequence[Outcome] = ()
) -> Comparison:
    """What the runs of a comparison show, as far as they are finished.

    Args:
        cells: All planned runs, those that only tune included, in the order of the methods in tables. A tuned method's final cells carry
            the chosen trial; cells with ``tuning`` are listed and never compared.
        folder: The comparison's directory; the run of a cell is ``runs/KEY`` in it. One that is not finished is listed as missing.
        baseline: The label of the method that all others are compared with; the first one where None.
        every_pair: Compare every method with every other instead; the family of Holm's correction is then larger.
        outcomes: How cells ended, for the sentences of those that failed.

    Raises:
        ConfigError: ``baseline`` is none of the methods, or two cells stand for the same run of a method.
        DataError: A run has no test accuracy, or runs of one setting were tested on different examples.
        RunError: The directory of a run is damaged, or runs have results of different schemas.
    """
    rows, failures, notes = collect(cells, Path(folder), outcomes)
    return compare_rows(
        rows, methods=[cell.method for cell in cells], baseline=baseline, every_pair=every_pair, failures=failures, notes=notes
    )


def compare_rows(
    runs: Sequence[RunRow],
    *,
    methods: Sequence[str] = (),
    baseline: str | None = None,
    every_pair: bool = False,
    failures: Sequence[Failure] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """What rows of runs show, wherever they come from.

    Args:
        runs: Finished runs.
        methods: Labels in the order of tables; those of the runs follow.
        baseline: As for :func:`summarize`.
        every_pair: As for :func:`summarize`.
        failures: Runs that are not there.
        notes: Sentences for whoever reads the numbers.
    """
    names = list(dict.fromkeys([*methods, *(run.method for run in runs)]))
    first = _baseline(names, baseline)
    _check_single(runs)
    settings: list[SettingRow] = []
    method_rows: list[MethodRow] = []
    pair_rows: list[PairRow] = []
    for place, setting in enumerate(dict.fromkeys(row.setting for row in runs if not row.tuning)):
        here = [run for run in runs if run.setting == setting]
        present = [name for name in names if any(run.method == name and not run.tuning for run in here)]
        scores = scores_of(here, present)
        settings.append(setting_row(setting.data, setting.model, setting.fraction, scores))
        method_rows += [method_row(place, name, [run for run in here if run.method == name], scores) for name in present]
        pair_rows += paired_rows(place, scores, _pairs(present, first, every_pair))
    every = overall(settings, method_rows, pair_rows, family(names, first, every_pair=every_pair))
    lines = (*notes, *_missing(failures))
    return Comparison(first, every_pair, tuple(runs), tuple(settings), tuple(method_rows), tuple(pair_rows), every, tuple(failures), lines)


def _baseline(names: Sequence[str], baseline: str | None) -> str:
    if baseline is None:
        return names[0] if names else ""
    if baseline not in names:
        raise ConfigError(f"--baseline {baseline}: none of the methods is called so. {suggest(baseline, names)}")
    return baseline


def _pairs(present: Sequence[str], baseline: str, every_pair: bool) -> list[tuple[str, str]]:
    """The pairs of a setting; none where the baseline has no run there and is all that others are compared with."""
    return [pair for pair in family(present, baseline, every_pair=every_pair) if set(pair) <= set(present)]


def _check_single(runs: Sequence[RunRow]) -> None:
    """No method has two runs that would be one cell."""
    seen: dict[tuple[str, Setting, int, int], RunRow] = {}
    for run in (run for run in runs if not run.tuning):
        cell = (run.method, run.setting, run.data_seed, run.seed)
        other = seen.setdefault(cell, run)
        if other is not run:
            raise ConfigError(
                f"{run.run} and {other.run} are both {run.method} with seed {run.seed} and data seed {run.data_seed} on {run.data}: a "
                "method has one run for each seed; give them different labels, or mark one as tuning"
            )


def _missing(failures: Sequence[Failure]) -> list[str]:
    """A sentence on runs that are not there."""
    if not failures:
        return []
    count, failed = len(failures), sum(failure.error is not None for failure in failures)
    verb = "is" if count == 1 else "are"
    return [
        f"{count} {'run' if count == 1 else 'runs'} {verb} missing ({failed} failed): pairs are compared over the cells that both methods "
        "have, which is fair only where failing has nothing to do with how good a run would have been."
    ]
