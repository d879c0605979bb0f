"""The plan of a comparison, for people: which runs, how long, how much space."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from holdfast.cli.help import two_columns
from holdfast.cli.terminal import page_width
from holdfast.compare.cells import Setting
from holdfast.wording import duration

if TYPE_CHECKING:
    from holdfast.compare.forecast import Forecast

__all__ = ["print_forecast", "setting_words"]


def print_forecast(forecast: Forecast, dry_run: str | None, console: Console) -> None:
    """Print a plan.

    Args:
        forecast: The plan.
        dry_run: ``--out``, where nothing but this was asked for; None where the runs follow.
        console: Where to.
    """
    if dry_run is not None:
        console.print(Text(f"Plan of {shlex.quote(dry_run)}: nothing has been written. Times are estimates."), soft_wrap=True)
    rows = [(Text(title, "bold"), Text(text)) for title, text in _rows(forecast)]
    console.print(Padding(two_columns(rows, max(left.cell_len for left, _ in rows)), (0, 0, 0, 2)), width=page_width(console))
    if dry_run is not None:
        console.print(Text("Next: the same command without --dry-run."))


def setting_words(setting: Setting) -> str:
    """A setting as it is called in lines.

    Example:
        >>> setting_words(Setting("cars/", "timm:resnet18", 0.25))
        'cars/ (25 % of train) with timm:resnet18'
    """
    fraction = "" if setting.fraction is None else f" ({100 * setting.fraction:g} % of train)"
    return f"{setting.data}{fraction} with {setting.model}"


def _rows(forecast: Forecast) -> Iterator[tuple[str, str]]:
    shape = forecast.plan.shape
    for number, setting in enumerate(shape.settings):
        yield "" if number else "On", setting_words(setting)
    for number, contender in enumerate(shape.contenders):
        trials = shape.trials[contender.label]
        searched = f": {len(trials)} trials, {'; '.join(trial.name for trial in trials)}" if trials[0].name else ""
        yield "" if number else "Methods", contender.label + searched
    if unfair := _not_searched(forecast):
        yield "Note", unfair
    yield "Seeds", _seeds(forecast)
    yield "Runs", _runs(forecast)
    if forecast.remaining:
        yield "Time", _time(forecast)
        yield "Disk", f"about {_mib(forecast.disk)} more; {_mib(forecast.free)} are free" + _too_little(forecast)


def _not_searched(forecast: Forecast) -> str:
    trials = forecast.plan.shape.trials
    searched = [label for label, found in trials.items() if found[0].name]
    others = [label for label in trials if label not in searched]
    if not searched or not others:
        return ""
    count = len(trials[searched[0]])
    verb = "is" if len(others) == 1 else "are"
    return f"{', '.join(others)} {verb} not searched, while others have {count} trials: --grid {others[0]}.lr=..."


def _seeds(forecast: Forecast) -> str:
    shape = forecast.plan.shape
    text = f"training {_list(shape.seeds)}; data {_list(shape.data_seeds)}"
    return f"{text}; trials are judged with {_list(shape.tune_seeds)}, on validation" if forecast.plan.searches else text


def _list(seeds: tuple[int, ...]) -> str:
    several = len(seeds) > 3 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    return f"{seeds[0]} to {seeds[-1]}" if several else ", ".join(map(str, seeds))


def _runs(forecast: Forecast) -> str:
    tuning = len(forecast.plan.tuning)
    parts = [f"{forecast.total}"]
    if tuning:
        parts[0] += f", {tuning} of them to choose trials"
    if forecast.finished:
        parts.append(f"{forecast.finished} are finished, {len(forecast.remaining)} are left")
    return "; ".join(parts)


def _time(forecast: Forecast) -> str:
    together = f"{forecast.workers} at a time" if forecast.workers > 1 else "one at a time"
    each = ", ".join(f"{label} {duration(seconds)}" for label, seconds in _each(forecast).items())
    return f"about {duration(forecast.seconds)}, {together} on {forecast.device}; a run without reading the data: {each}"


def _each(forecast: Forecast) -> dict[str, float]:
    """Mean over settings of what a run of each method takes."""
    found: dict[str, list[float]] = {}
    for (_, label), estimate in forecast.estimates.items():
        found.setdefault(label, []).append(estimate.seconds)
    return {label: sum(seconds) / len(seconds) for label, seconds in found.items()}


def _too_little(forecast: Forecast) -> str:
    return ", which is too little" if forecast.disk > forecast.free else ""


def _mib(size: float) -> str:
    if size >= 1024:
        return f"{size / 1024:.1f} GiB"
    return f"{size:.0f} MiB" if size >= 10 else f"{size:.1f} MiB"
