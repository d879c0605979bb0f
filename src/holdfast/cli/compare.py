"""``holdfast compare``: from the command line to a directory with runs and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.averaging.record import read_averages
from holdfast.cli.arguments import parse
from holdfast.cli.averages import print_averages
from holdfast.cli.compare_forecast import print_forecast
from holdfast.cli.compare_options import COMMAND, COMPARING, SHARED, compare_page
from holdfast.cli.compare_progress import progress
from holdfast.cli.compare_summary import print_comparison
from holdfast.cli.terminal import out
from holdfast.compare.asked import Asked, command_line
from holdfast.compare.driver import compare_asked, forecast_asked
from holdfast.config.methods import PREFIX
from holdfast.config.yaml_file import yaml_layer

__all__ = ["page", "run"]

page = compare_page


def run(argv: Sequence[str]) -> int:
    """Compare, and print what came out of it; or only plan.

    Returns:
        0, or 1 where a run that is compared could not be made.
    """
    parsed = parse(argv, (*COMPARING, *SHARED, *COMMAND), free_prefix=f"--{PREFIX}")
    command = {argument.key: parsed.values.pop(argument.key, None) for argument in COMMAND}
    values: dict[str, Any] = {**parsed.values, **({"data": parsed.words} if parsed.words else {})}
    layers = [yaml_layer(command["config"])] if command["config"] else []
    asked = Asked.of([*layers, command_line(values)])
    with progress(quiet=bool(command["quiet"])) as listener:
        if command["dry_run"]:
            forecast = forecast_asked(asked, listener=listener)
        else:
            comparison = compare_asked(asked, listener=listener)
    if command["dry_run"]:
        print_forecast(forecast, str(asked.get("out")), out)
        return 0
    if asked.switch("average", default=True):
        print_averages(read_averages(str(asked.get("out"))))
    print_comparison(comparison, str(asked.get("out")))
    return 1 if any(not failure.tuning for failure in comparison.failures) else 0
