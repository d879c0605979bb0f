"""Checks across options: what no single value can tell."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping

from holdfast.catalog import DATASETS, MODELS, Family
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError, suggest

__all__ = ["check_config", "check_device", "check_ranks"]

Spell = Callable[[str], str]


def check_config(config: FitConfig, spell: Spell, example: str) -> None:
    """Refuse options that do not fit each other, or this process's ranks.

    Args:
        config: Every option typed and in range.
        spell: How the user calls an option.
        example: A complete call, shown when one of the needed options is missing.

    Raises:
        ConfigError: One sentence on the first misfit.
    """
    _check_needed(config, spell, example)
    _check_model(config.model, spell("model"))
    _check_data(config.data, spell("data"))
    _check_schedule(config, spell)
    check_device(config.device, spell("device"))
    check_ranks(config, spell)


def _check_needed(config: FitConfig, spell: Spell, example: str) -> None:
    missing = [spell(key) for key in ("data", "model", "out") if not getattr(config, key)]
    if missing:
        listed = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        raise ConfigError(f"{listed} {'is' if len(missing) == 1 else 'are'} missing; for example: {example}")


def _check_model(model: str, spelled: str) -> None:
    prefix, colon, name = model.partition(":")
    if not colon:
        raise ConfigError(f"{spelled} {model!r}: say where the network comes from, such as timm:{model} or torchvision:{model}.")
    if prefix not in MODELS:
        raise ConfigError(f"{spelled} {model!r}: unknown kind of model {prefix!r}. {suggest(prefix, MODELS)}")
    if not name or (prefix == "python" and ":" not in name):
        raise ConfigError(f"{spelled} {model!r}: expected the form {MODELS[prefix].example}.")
    _check_member(MODELS[prefix], name, f"{spelled} {model!r}: unknown model")


def _check_data(data: str, spelled: str) -> None:
    prefix, colon, name = data.partition(":")
    if colon and prefix and prefix in DATASETS:
        _check_member(DATASETS[prefix], name, f"{spelled} {data!r}: unknown dataset")


def _check_member(family: Family, name: str, sentence: str) -> None:
    if family.members and name not in family.members:
        raise ConfigError(f"{sentence} {name!r}. {suggest(name, family.members)}")


def _check_schedule(config: FitConfig, spell: Spell) -> None:
    milestones, shown = config.milestones, f"{spell('milestones')} {','.join(map(str, config.milestones))}"
    if config.schedule != "step":
        if milestones:
            raise ConfigError(
                f"{shown}: only {spell('schedule')} step uses milestones, and it is {config.schedule}; write {spell('schedule')} step."
            )
        return
    if not milestones:
        raise ConfigError(f"{spell('schedule')} step: needs {spell('milestones')}, the epochs at which the rate falls, such as 9,18,24.")
    if any(later <= earlier for earlier, later in itertools.pairwise(milestones)):
        raise ConfigError(f"{shown}: expected increasing epochs, such as 9,18,24.")
    if milestones[-1] >= config.epochs:
        raise ConfigError(
            f"{shown}: epoch {milestones[-1]} is never reached with {spell('epochs')} {config.epochs}; choose milestones below it."
        )


def check_device(device: str, spelled: str) -> None:
    """Refuse a text that names no device. Whether the machine has it, torch knows.

    Raises:
        ConfigError: Shows what can be given.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(f"{spelled}: expected auto, cpu, cuda or cuda:N, got {device!r}.")


def check_ranks(config: FitConfig, spell: Spell) -> None:
    """Compare batch size, ``--devices`` and ``--nodes`` with the ranks that torchrun or a cluster has started.

    Raises:
        ConfigError: There are other ranks than expected, or the batch cannot be shared out evenly.
    """
    world = _from_environment(os.environ, "WORLD_SIZE")
    local = _from_environment(os.environ, "LOCAL_WORLD_SIZE", default=world)
    _check_found("rank(s) on this machine", config.devices, local, spell("devices"), "--nproc-per-node")
    _check_found("machine(s)", config.nodes, max(1, world // local), spell("nodes"), "--nnodes")
    parts = world * config.accumulate
    if config.batch_size % parts == 0:
        return
    by = " x ".join(
        words
        for words, number in ((f"{world} ranks", world), (f"{spell('accumulate')} {config.accumulate}", config.accumulate))
        if number > 1
    )
    nearest = max(1, round(config.batch_size / parts)) * parts
    raise ConfigError(f"{spell('batch_size')} {config.batch_size}: not divisible by {by}; the nearest that is: {nearest}.")


def _from_environment(environment: Mapping[str, str], name: str, default: int = 1) -> int:
    text = environment.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"the environment variable {name} must be a whole number of at least 1, got {text!r}; unset it, or start with torchrun."
        )
    return int(text)


def _check_found(what: str, expected: int | None, found: int, spelled: str, flag: str) -> None:
    if expected is not None and expected != found:
        raise ConfigError(
            f"{spelled} {expected}: found {found} {what}, which holdfast never starts; type torchrun {flag} {expected} -m holdfast fit ..."
        )
