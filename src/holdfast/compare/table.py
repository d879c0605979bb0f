"""``comparison.csv``: one row a run."""

from __future__ import annotations

from holdfast.compare.record import Comparison, RunRow
from holdfast.run.table import Row, write_rows

__all__ = ["csv_text"]


def csv_text(comparison: Comparison) -> str:
    """The runs as a table, those that only tuned included; empty cells where a number is not known."""
    return write_rows([_row(run) for run in comparison.runs])


def _row(run: RunRow) -> Row:
    primary = run.metrics.selections[0]
    row: Row = {
        **{"method": run.method, "data": run.data, "model": run.model, "fraction": run.fraction},
        **{"seed": run.seed, "data_seed": run.data_seed, "trial": run.trial, "tuning": "yes" if run.tuning else "no"},
        **{"selected_by": primary.by, "epoch": primary.epoch, "weights": primary.weights},
    }
    for split, metrics in (("test", run.metrics.test), ("val", run.metrics.val)):
        low, high = (metrics.accuracy_ci95 if metrics else None) or (None, None)
        row |= {f"{split}_accuracy": metrics.accuracy if metrics else None, f"{split}_accuracy_low": low, f"{split}_accuracy_high": high}
        row |= {f"{split}_{name}": getattr(metrics, name) if metrics else None for name in ("macro_f1", "nll", "ece", "n")}
    kept = [selection for selection in run.metrics.selections if selection.weights == primary.weights]
    row |= {f"test_accuracy_{selection.by.replace('-', '_')}": selection.test for selection in kept}
    cost = run.cost
    row |= {"device": cost.device, "steps": cost.steps, "seconds_per_step": cost.seconds_per_step, "seconds_total": cost.seconds_total}
    return row | {"peak_memory_mib": cost.peak_memory_mib, "extra_data": "; ".join(cost.extra_data), "run": run.run}
