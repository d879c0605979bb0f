"""An average beside the runs it is of, as the cells of a table. No torch here."""

from __future__ import annotations

from holdfast.averaging.record import AverageRow
from holdfast.wording import percent

__all__ = ["COLUMNS", "FOOTNOTE", "words"]

COLUMNS = ("average", "of", "test (95 % interval)", "best run", "mean run", "average less best run", "")

FOOTNOTE = "Intervals are of each average alone; verdicts are after Holm's correction over all."


def words(row: AverageRow) -> list[str]:
    """What stands below :data:`COLUMNS`; differences in points."""
    tested = "–" if row.test is None else _with_ends(row.test["accuracy"], row.test["accuracy_ci95"])
    best = "–" if row.best.test is None else percent(row.best.test["accuracy"])
    difference = "–" if row.difference is None else f"{100 * row.difference:+.1f}"
    if row.ci95 is not None:
        difference += f" ({100 * row.ci95[0]:+.1f} to {100 * row.ci95[1]:+.1f})"
    mean = "–" if row.mean_test is None else percent(row.mean_test)
    return [_named(row), ", ".join(filter(None, row.methods)) or "runs", tested, best, mean, difference, row.outcome]


def _named(row: AverageRow) -> str:
    if row.kind == "wise-ft":
        return f"wise-ft, share {row.details['share']:g}{' (the start)' if row.details['share'] == 0 else ''}"
    return f"{row.kind}, {len(row.members)} run{'s' if len(row.members) > 1 else ''}"


def _with_ends(value: float, ends: list[float]) -> str:
    return f"{percent(value)} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
