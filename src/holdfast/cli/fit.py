"""``holdfast fit``: from the command line to a run directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from holdfast.catalog.baselines import DEFAULT
from holdfast.cli.arguments import parse
from holdfast.cli.fit_options import COMMAND, CONFIG_ARGUMENTS, fit_page
from holdfast.cli.messages import is_main_rank, tell
from holdfast.cli.plan import print_plan
from holdfast.cli.progress import progress
from holdfast.cli.summary import print_summary
from holdfast.cli.terminal import err
from holdfast.config.layers import command_line
from holdfast.config.load import machine_options, resolve
from holdfast.config.methods import PREFIX
from holdfast.config.schema import FitConfig
from holdfast.config.slurm import adopt_slurm_ranks
from holdfast.config.yaml_file import yaml_layer
from holdfast.errors import ConfigError
from holdfast.run import Run
from holdfast.training.events import Event, Listener, RunStarted

__all__ = ["page", "run"]

page = fit_page


def run(argv: Sequence[str]) -> int:
    """Fine-tune, or go on with a run, then print the summary; or only plan."""
    adopt_slurm_ranks(os.environ)
    parsed = parse(argv, (*CONFIG_ARGUMENTS.values(), *COMMAND), free_prefix=f"--{PREFIX}")
    parsed.no_more_than(1, "fit")
    if parsed.words and "data" in parsed.values:
        raise ConfigError(f"--data {parsed.values['data']}: DATA is given already, {parsed.words[0]!r}; leave one of them out.")
    if parsed.words:
        parsed.values["data"] = parsed.words[0]
    command = {argument.key: parsed.values.pop(argument.key, None) for argument in COMMAND}
    quiet = bool(command["quiet"]) or not is_main_rank()
    if command["dry_run"]:
        _plan(command, parsed.values, quiet)
        return 0
    finished = _resume(command, parsed.values, quiet) if command["resume"] else _fit(command["config"], parsed.values, quiet)
    if is_main_rank():
        print_summary(finished)
    return 0


def _config(file: str | None, values: dict[str, Any]) -> FitConfig:
    layers = [yaml_layer(file)] if file else []
    config = resolve([*layers, command_line(values)])
    if is_main_rank():
        Run.check_vacant(config.out)  # before the seconds that torch takes
    return config


def _saying_default(file: str | None, values: dict[str, Any], config: FitConfig, listener: Listener) -> Listener:
    """The listener; of a run that was given no method it says first which baseline that is, and why."""
    given = [*(yaml_layer(file).values if file else ()), *values]
    recipe = config.labels != "as-given" or config.recipe != "full"
    if recipe or any(key == "method" or key.startswith(PREFIX) for key in given):
        return listener

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            tell(DEFAULT)
        listener(event)

    return listen


def _plan(command: dict[str, Any], values: dict[str, Any], quiet: bool) -> None:
    if command["resume"]:
        raise ConfigError("--dry-run: only a run that has not begun can be planned; leave out --dry-run or --resume.")
    config = _config(command["config"], values)
    if not quiet:
        err.print("looking at data and network and timing a few steps", soft_wrap=True)
    from holdfast.recipes import plan_config

    plan = plan_config(config)
    if is_main_rank():
        print_plan(plan)


def _fit(file: str | None, values: dict[str, Any], quiet: bool) -> Run:
    config = _config(file, values)
    from holdfast.recipes import fit_config

    with progress(quiet=quiet) as listener:
        return fit_config(config, listener=listener if quiet else _saying_default(file, values, config, listener))


def _resume(command: dict[str, Any], values: dict[str, Any], quiet: bool) -> Run:
    if command["config"]:
        raise ConfigError("--config: a resumed run keeps its options; leave --config out, or start a new run without --resume.")
    overrides = machine_options(command_line(values))
    Run.open(command["resume"])
    from holdfast.recipes import resume

    with progress(quiet=quiet) as listener:
        return resume(command["resume"], overrides=overrides, listener=listener)
