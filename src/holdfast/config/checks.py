"""Checks across options: what no single value can tell."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence

from holdfast.catalog import DATASETS, MODELS, Family, reads_texts
from holdfast.config.schema import FitConfig
from holdfast.errors import ConfigError, DependencyError, suggest

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
        DependencyError: An option needs a package that is not installed.
    """
    _check_needed(config, spell, example)
    _check_model(config.model, spell("model"))
    _check_kind(config, spell)
    _check_data(config.data, spell("data"))
    _check_folds(config, spell)
    if config.amsgrad and config.optimizer != "adamw":
        raise ConfigError(f"{spell('amsgrad')}: only {spell('optimizer')} adamw has it, and it is {config.optimizer}; leave it out.")
    _check_schedule(config, spell)
    _check_warmup(config, spell)
    _check_head_rate(config, spell)
    _check_selection(config, spell)
    _check_labels(config, spell)
    _check_recipe(config, spell)
    _check_tracker(config.tracker, spell("tracker"))
    check_device(config.device, spell("device"))
    check_ranks(config, spell)
    _check_strategy(config, spell)


def _check_needed(config: FitConfig, spell: Spell, example: str) -> None:
    missing = [spell(key) for key in ("data", "model", "out") if not getattr(config, key)]
    if missing:
        listed = missing[0] if len(missing) == 1 else f"{', '.join(missing[:-1])} and {missing[-1]}"
        raise ConfigError(f"{listed} {'is' if len(missing) == 1 else 'are'} missing; for example: {example}")


_OTHER_LIBRARIES = {"open_clip": ("open_clip", "timm:vit_base_patch32_clip_224.openai")}

_OF_IMAGES = ("image_size", "augment", "flip", "normalization")
"""Options that say nothing about texts."""


def _check_model(model: str, spelled: str) -> None:
    prefix, colon, name = model.partition(":")
    if not colon:
        raise ConfigError(f"{spelled} {model!r}: say where the network comes from, such as timm:{model} or torchvision:{model}.")
    if prefix in _OTHER_LIBRARIES:
        library, example = _OTHER_LIBRARIES[prefix]
        raise ConfigError(
            f"{spelled} {model!r}: networks of {library} cannot be loaded in this version; timm has most of their image networks, for "
            f"example {example}; or return yours from a function and type python:FILE.py:FUNCTION."
        )
    if prefix not in MODELS:
        raise ConfigError(f"{spelled} {model!r}: unknown kind of model {prefix!r}. {suggest(prefix, MODELS)}")
    if not name or (prefix == "python" and ":" not in name):
        raise ConfigError(f"{spelled} {model!r}: expected the form {MODELS[prefix].example}.")
    _check_member(MODELS[prefix], name, f"{spelled} {model!r}: unknown model")


def _check_kind(config: FitConfig, spell: Spell) -> None:
    """Options of images with a network of texts, and the other way round."""
    if not reads_texts(config.model):
        if config.max_length is not None:
            shown = f"{spell('max_length')} {config.max_length}"
            raise ConfigError(f"{shown}: {spell('model')} {config.model} reads images, which have no tokens; leave it out.")
        return
    if importlib.util.find_spec("transformers") is None:
        shown = f"{spell('model')} {config.model}"
        raise DependencyError(f'{shown}: the package transformers is not installed; type pip install "holdfast[text]"')
    for key in _OF_IMAGES:
        value = getattr(config, key)
        if value != getattr(FitConfig, key):
            shown = f"{spell(key)} {'false' if value is False else value}"
            raise ConfigError(f"{shown}: {spell('model')} {config.model} reads texts, and this is about images; leave it out.")


def _check_data(data: str, spelled: str) -> None:
    prefix, colon, name = data.partition(":")
    if not colon or len(prefix) < 2 or os.path.exists(data):  # a path, perhaps with the letter of a drive
        return
    kinds = [family.prefix for family in DATASETS.values() if family.example.startswith(f"{family.prefix}:")]
    if prefix not in kinds:
        raise ConfigError(f"{spelled} {data!r}: unknown kind of dataset {prefix!r}. {suggest(prefix, kinds)}")
    if not name:
        raise ConfigError(f"{spelled} {data!r}: expected the form {DATASETS[prefix].example}.")
    if prefix == "torchvision":
        name = name.partition("@")[0].lower()
    _check_member(DATASETS[prefix], name, f"{spelled} {data!r}: unknown dataset")


def _check_member(family: Family, name: str, sentence: str) -> None:
    if name in family.absent:
        raise ConfigError(f"{sentence} {name!r}: {family.absent[name]}.")
    if family.members and name not in family.members:
        raise ConfigError(f"{sentence} {name!r}. {suggest(name, family.members)}")


def _check_folds(config: FitConfig, spell: Spell) -> None:
    folds, fold = config.folds, config.fold
    if folds is None and fold is not None:
        raise ConfigError(f"{spell('fold')} {fold}: of how many folds? Give {spell('folds')} too, such as {spell('folds')} 5.")
    if folds is not None and fold is None:
        raise ConfigError(f"{spell('folds')} {folds}: needs {spell('fold')}, the one that is held out, from 0 to {folds - 1}.")
    if folds is not None and fold is not None and fold >= folds:
        raise ConfigError(f"{spell('fold')} {fold}: expected one from 0 to {folds - 1}, since {spell('folds')} is {folds}.")


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


def _check_tracker(trackers: Sequence[str], spelled: str) -> None:
    if "tensorboard" in trackers and importlib.util.find_spec("tensorboard") is None:
        raise DependencyError(f'{spelled} tensorboard: the package tensorboard is not installed; type pip install "holdfast[tensorboard]"')


def _check_warmup(config: FitConfig, spell: Spell) -> None:
    steps, epochs = config.warmup_steps, config.warmup_epochs
    if steps and epochs is not None:
        raise ConfigError(f"{spell('warmup_steps')} {steps} and {spell('warmup_epochs')} {epochs:g}: give one of them.")
    if epochs is not None and epochs > config.epochs:
        raise ConfigError(
            f"{spell('warmup_epochs')} {epochs:g}: longer than the run, {spell('epochs')} {config.epochs}; choose a smaller one."
        )
    shaped = [
        f"{spell(key)} {getattr(config, key)}" for key in ("warmup", "warmup_start") if getattr(config, key) != getattr(FitConfig, key)
    ]
    if shaped and not (steps or epochs):
        raise ConfigError(f"{shaped[0]}: there is no warm-up; say how long it is with {spell('warmup_steps')} or {spell('warmup_epochs')}.")
    if config.warmup == "constant" and not config.warmup_start:
        raise ConfigError(
            f"{spell('warmup')} constant: holds the rate at 0 during the warm-up; say at which share of it with {spell('warmup_start')}."
        )


def _check_head_rate(config: FitConfig, spell: Spell) -> None:
    if config.head_lr is not None and config.head_lr_factor is not None:
        raise ConfigError(
            f"{spell('head_lr')} {config.head_lr:g} and {spell('head_lr_factor')} {config.head_lr_factor:g}: "
            "both set the head's rate; give one of them."
        )


def _check_selection(config: FitConfig, spell: Spell) -> None:
    if config.select_weights == "ema" and config.ema is None:
        raise ConfigError(f"{spell('select_weights')} ema: there is no average; give its decay, such as {spell('ema')} 0.999.")
    if config.patience is not None and config.select == "last":
        raise ConfigError(
            f"{spell('patience')} {config.patience}: needs a criterion, and {spell('select')} is last; "
            f"write {spell('select')} val-accuracy or val-loss."
        )


def _check_labels(config: FitConfig, spell: Spell) -> None:
    """What only makes sense where labels are expected to be wrong."""
    robust = config.labels == "robust"
    if config.select == "val-corrected" and config.matrix is None and not robust:
        raise ConfigError(
            f"{spell('select')} val-corrected: needs to know how often each class is labelled as each other; give {spell('transition')} "
            f"with a file of 'holdfast labels estimate' or a form such as symmetric:0.4, or {spell('labels')} robust, which estimates it."
        )
    if config.estimate_from != "features" and not robust:
        raise ConfigError(
            f"{spell('estimate_from')} {config.estimate_from}: nothing is estimated without {spell('labels')} robust; add it."
        )
    for entry in config.methods if config.transition is not None else []:
        if (own := entry.get("transition", config.transition)) != config.transition:
            raise ConfigError(
                f"{spell('transition')} {config.transition}: the method {entry['name']!r} has another, {own}; give one of them."
            )
    used = robust or config.select == "val-corrected" or any("transition" in entry for entry in config.methods)
    if config.transition is not None and not used:
        raise ConfigError(
            f"{spell('transition')} {config.transition}: nothing in this run uses it; add {spell('labels')} robust, {spell('method')} "
            f"forward or {spell('select')} val-corrected."
        )


def _check_recipe(config: FitConfig, spell: Spell) -> None:
    """A probe is solved on features that nothing changes, as the labels are."""
    if config.recipe == "full":
        return
    shown = f"{spell('recipe')} {config.recipe}"
    others = [entry["name"] for entry in config.methods if entry["name"] != "plain"]
    if config.labels == "robust":
        raise ConfigError(
            f"{shown}: its linear probe would be fitted to the labels as they are, wrong ones too, which {spell('labels')} robust is there "
            "to prevent; give one of them."
        )
    if config.recipe == "linear-probe" and others:
        raise ConfigError(
            f"{shown}: trains no features and solves for the cross-entropy, so {spell('method')} {'+'.join(others)} has no say; leave it "
            f"out, type {spell('recipe')} lp-ft, or train the head by steps with {spell('freeze')} backbone."
        )
    if config.recipe == "lp-ft" and "backbone" in config.freeze:
        raise ConfigError(
            f"{shown}: with {spell('freeze')} backbone nothing is left to fine-tune after the probe; type {spell('recipe')} linear-probe."
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


def _check_strategy(config: FitConfig, spell: Spell) -> None:
    """What weights that are spread over ranks do not go with."""
    if config.strategy != "fsdp":
        return
    shown = f"{spell('strategy')} fsdp"
    if _from_environment(os.environ, "WORLD_SIZE") == 1:
        raise ConfigError(
            f"{shown}: this is one rank, and nobody is there to share the weights with; type torchrun --nproc-per-node 2 -m holdfast fit "
            "..., or leave the option out."
        )
    refused = {spell("compile"): config.compile, f"{spell('precision')} fp16": config.precision == "fp16"}
    for option, given in refused.items():
        if given:
            raise ConfigError(f"{shown}: does not go with {option}; leave it out, or take {spell('strategy')} ddp.")


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
