"""What the runs chose: weights by this criterion or that, and trials of a search."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.compare.record import RunRow
from holdfast.report.blocks import Cell, Section, Table
from holdfast.report.compared import SettingView
from holdfast.wording import percent

__all__ = ["search", "selections"]


def selections(view: SettingView) -> Section | None:
    """Mean test accuracy by each criterion; None where there is only one."""
    criteria = list(dict.fromkeys(by for row in view.methods for by in row.selections))
    if len(criteria) < 2:
        return None
    rows = [[row.name, *(percent(row.selections.get(by)) for by in criteria)] for row in view.methods]
    return Section(
        "selections",
        "Which epoch's weights",
        "Mean test accuracy of the weights that each criterion picks. Methods are compared by the first one; the weights of the last epoch "
        "tell how much the choice matters.",
        "'best-by-test (optimistic)' is the best epoch in hindsight: it was chosen by the test examples themselves and is higher than what "
        "can be had. It is here only because it was asked for, and nothing is concluded from it."
        if "best-by-test" in criteria
        else "",
        [Table("Test accuracy by selection", ("method", *map(_criterion, criteria)), rows)],
    )


def _criterion(by: str) -> str:
    return f"{by} (optimistic)" if by == "best-by-test" else by


def search(view: SettingView) -> Section | None:
    """The trials of each search with what they reached on validation; None where nothing was searched."""
    setting = view.compared.comparison.settings[view.place]
    here = (setting.data, setting.model, setting.fraction)
    tuning = [run for run in view.compared.comparison.runs if run.tuning and (run.data, run.model, run.fraction) == here]
    if not tuning:
        return None
    rows: list[list[Cell | str]] = []
    for method in view.methods:
        chosen = {run.trial for run in view.runs[method.name].values()}
        trials = dict.fromkeys(run.trial for run in tuning if run.method == method.name)
        rows += [
            _trial(method.name, trial, [run for run in tuning if (run.method, run.trial) == (method.name, trial)], chosen)
            for trial in trials
        ]
    return Section(
        "search",
        "What was searched",
        "Options were chosen for each method by mean validation accuracy over runs with other seeds than those compared; the test examples "
        "had no part in it.",
        "Every method has as many trials as the others only where the table says so: more trials find more. A choice at the edge of its "
        "grid may not be the best there is.",
        [Table("Trials", ("method", "trial", "runs", "validation accuracy", "chosen"), rows, text_columns=(1, 4))],
    )


def _trial(method: str, trial: str, runs: Sequence[RunRow], chosen: set[str]) -> list[Cell | str]:
    found = [run.metrics.val.accuracy for run in runs if run.metrics.val is not None and run.metrics.val.accuracy is not None]
    mean = percent(sum(found) / len(found)) if found else "-"
    return [method, trial or "as given", str(len(runs)), mean, "yes" if trial in chosen else ""]
