"""What ``averages.json`` holds, schema 1, as objects. Accuracies and what is computed of them are shares, not percent. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from holdfast.compare.statistics import Verdict
from holdfast.errors import RunError

__all__ = ["FILE", "SCHEMA", "AverageRow", "Averages", "Group", "SingleRun", "read_averages", "to_json"]

FILE: Final = "averages.json"
SCHEMA: Final = 1

Kind = Literal["wise-ft", "greedy-soup", "model-stock"]


@dataclass(frozen=True, slots=True)
class SingleRun:
    """A run that was looked at. ``val`` and ``test`` are its metrics as in ``result.json``, ``test`` None where there is no test split."""

    run: str
    method: str
    seed: int | None
    val: Mapping[str, Any]
    test: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class AverageRow:
    """One average beside the runs that it was made from.

    Args:
        kind: How it was made.
        methods: The methods whose runs were looked at.
        members: The runs that went in, by directory.
        single: Whether nothing better than one of them was found on validation, so that it is that run as it is.
        val: Metrics on validation, by which it was chosen; they are optimistic for that.
        test: Metrics on test, read once after the choice; None where there is no test split.
        best: The run of these methods that is best on validation.
        mean_val: Mean validation accuracy of these runs.
        mean_test: Mean test accuracy of these runs.
        difference: Test accuracy less that of ``best``.
        ci95: Interval of the difference over test examples, of these two networks.
        p: McNemar's exact p value.
        p_holm: The same after Holm's correction over all averages of the file that are no single runs.
        verdict: ``better`` or ``worse`` where ``p_holm`` is below 0.05.
        details: ``share`` and ``curve`` of WiSE-FT, ``ratio`` of Model Stock, ``looked_at`` and ``left_out`` of a soup.
    """

    kind: Kind
    methods: tuple[str, ...]
    members: tuple[str, ...]
    single: bool
    val: Mapping[str, Any]
    test: Mapping[str, Any] | None
    best: SingleRun
    mean_val: float
    mean_test: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    verdict: Verdict
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What became of it, in words."""
        if self.single:
            return "did not help: on validation nothing was better than the best run alone"
        if self.difference is None:
            return "not known: there is no test split"
        return {"better": "helped", "worse": "hurt"}.get(self.verdict, "did not help: no difference shown")


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of the same data, splits and network, and their averages.

    Args:
        data: ``DATA`` as given.
        model: ``--model`` as given.
        fraction: ``--train-fraction``.
        data_seed: ``--data-seed``.
        runs: All that were looked at.
        averages: What was made of them.
        chosen: Place of the average that is best on validation, among equals the first; None where there is none.
        saved: The run directory that it was saved as, None where none is better than every single run.
        note: Why there are none; empty otherwise.
    """

    data: str
    model: str
    fraction: float | None
    data_seed: int
    runs: tuple[SingleRun, ...]
    averages: tuple[AverageRow, ...]
    chosen: int | None
    saved: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Averages:
    """All groups; how many passes over a validation or test split they took, and seconds."""

    groups: tuple[Group, ...]
    evaluations: int
    seconds: float
    source: str = ""


def to_json(averages: Averages) -> str:
    """The text of ``averages.json``."""
    return json.dumps({"schema": SCHEMA, **asdict(averages)}, indent=1, allow_nan=False) + "\n"


def read_averages(folder: str | Path) -> Averages:
    """The averages in a directory.

    Raises:
        RunError: There are none, or the file is damaged or of another schema.
    """
    file = Path(folder) / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found.pop("schema") != SCHEMA:
            raise RunError(f"{str(file)!r} has another schema than {SCHEMA}; read it with the holdfast that wrote it")
        return Averages(**found | {"groups": tuple(map(_group, found["groups"]))})
    except RunError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {str(file)!r}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{str(file)!r} is damaged ({type(error).__name__})") from error


def _group(found: dict[str, Any]) -> Group:
    runs = tuple(SingleRun(**run) for run in found["runs"])
    return Group(**found | {"runs": runs, "averages": tuple(map(_row, found["averages"]))})


def _row(found: dict[str, Any]) -> AverageRow:
    lists = {key: tuple(found[key]) for key in ("methods", "members")}
    ends = None if found["ci95"] is None else tuple(found["ci95"])
    return AverageRow(**found | lists | {"ci95": ends, "best": SingleRun(**found["best"])})
