"""From a configuration to objects, and through a whole run; the only place where data, models, methods and training meet."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.attach import head_form
from holdfast.catalog import method_record, reads_texts
from holdfast.config.layers import Layer, command_line, from_yaml
from holdfast.config.load import config_hash, config_to_yaml_dict, resolve
from holdfast.config.schema import FitConfig
from holdfast.data.normalize import effective_spec
from holdfast.errors import ConfigError
from holdfast.measures.tracking import FeatureTracking
from holdfast.models.classifier import Classifier
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.head import set_head
from holdfast.models.memory_format import to_channels_last
from holdfast.parts import Parts, make_engine
from holdfast.planning import Plan, make_plan
from holdfast.recorded import PROBE, REFERENCE_WEIGHTS, config_of, network_of, probed_head
from holdfast.run import Run
from holdfast.training.callbacks import Callback
from holdfast.training.engine import Engine
from holdfast.training.events import Listener, RunFinished, RunStarted, ignore, together
from holdfast.training.job import Job
from holdfast.training.layer_log import LayerLog
from holdfast.training.loop import Trainer
from holdfast.training.probe import solve_probe
from holdfast.training.result import finish
from holdfast.training.trackers import tracking
from holdfast.types import InputSpec, TextSpec

__all__ = ["fit_config", "go_on", "load_model", "packages_of", "plan_config", "resolve_again", "resume"]

log = logging.getLogger("holdfast")


def fit_config(config: FitConfig, *, listener: Listener = ignore) -> Run:
    """Fine-tune as configured and write the run directory.

    Nothing is written before data and network are known to be good, so a mistyped option leaves no half-made run behind.
    """
    Run.check_vacant(config.out)
    engine = make_engine(config)
    parts = Parts.build(config, engine)
    if engine.is_main:
        Run.create(config.out, config_to_yaml_dict(parts.config), packages=packages_of(parts.config))
    engine.wait()
    return go_on(Run.open(config.out), parts, engine, listener)


def go_on(run: Run, parts: Parts, engine: Engine, listener: Listener) -> Run:
    """Train a run that has its ``config.yaml`` from wherever it stands to its end; on all ranks together."""
    if parts.config.recipe == "lp-ft":
        set_head(parts.classifier.head, probed_head(run, parts.classifier.head_name))
    if engine.is_main and not run.has("reference.json"):
        _write_sources(run, parts)
    engine.wait()
    return _train(run, parts, engine, listener)


def plan_config(config: FitConfig) -> Plan:
    """What :func:`fit_config` would do and take, from a few real steps; nothing is written.

    Raises:
        HoldfastError: The run would be refused.
    """
    Run.check_vacant(config.out)
    engine = make_engine(config)
    parts = Parts.build(config, engine)
    nowhere = Run(Path(config.out), {}, {})  # a name for messages; its directory is neither made nor read
    return make_plan(_job(nowhere, parts, engine, ignore), stores_reference=_stored_reference(parts) is not None)


def resume(path: str | Path, *, overrides: Mapping[str, Any] | None = None, listener: Listener = ignore) -> Run:
    """Go on with a run exactly where it stopped; a finished one is returned as it is.

    Args:
        path: Run directory.
        overrides: Options of the machine, such as ``device`` or ``workers``.
        listener: Called with the events of training.

    Raises:
        CheckpointError: The data, the pretrained weights or the options are not those the run began with.
    """
    run = Run.open(path)
    if run.finished:
        listener(RunFinished(str(path), run.result))
        return run
    config = resolve_again(run, {**(overrides or {}), "out": str(path)})
    if run.has("reference.json") and run.has(REFERENCE_WEIGHTS):  # written in the other order; one alone is of no run yet
        config = dataclasses.replace(config, weights=str(run.path / REFERENCE_WEIGHTS))
    engine = make_engine(config)
    return go_on(run, Parts.build(config, engine), engine, listener)


def _write_sources(run: Run, parts: Parts) -> None:
    """What the run starts from: the splits, and where the pretrained weights and the head come from."""
    config, reference = parts.config, parts.reference
    run.write_splits(parts.data.splits_record())
    stored = _stored_reference(parts)
    if isinstance(parts.pretrained.input, TextSpec):
        run.write_network(parts.pretrained.input.files)
    record = {
        "schema": 1,
        "fingerprint": reference.fingerprint,
        **parts.pretrained.origin,
        "stored": stored is not None,
        "head": {"name": parts.pretrained.head_name, **_head_record(parts), "seed": config.seed},
    }
    run.write_reference(record, stored)


def _stored_reference(parts: Parts) -> Mapping[str, Tensor] | None:
    """The reference weights, where the run must store them."""
    config = parts.config
    # A file is named by its own hash; code of the user's and random draws may give something else another day.
    reproducible = not (config.model.startswith("python:") or config.weights == "random")
    return parts.reference.weights if config.store_reference == "always" or not reproducible else None


def _head_record(parts: Parts) -> dict[str, Any]:
    """How the head was first drawn; of one that begins as a probe has left it, which this was, too."""
    form, head = head_form(parts.terms), parts.classifier.head
    std = math.sqrt(2 / parts.classifier.feature_dim) if form.std is None else form.std
    record = {"init": "normal", "std": std, "bias": 0.0 if head.bias is not None else None}
    probed = {"init": "probe", "probe": PROBE, "fingerprint": fingerprint_tensors(dict(head.named_parameters()))}
    return record | ({"extra": form.extra} if form.extra else {}) | (probed if parts.config.recipe == "lp-ft" else {})


def load_model(path: str | Path) -> tuple[Classifier, tuple[str, ...], InputSpec | TextSpec]:
    """The network of a finished run with its selected weights, in eval mode; its class names; what images or texts it expects."""
    run = Run.open(path)
    classifier, pretrained = network_of(run)
    config = config_of(run)
    if config.channels_last == "on":
        to_channels_last(classifier.net)
    spec = pretrained.input
    return classifier, tuple(run.splits["classes"]), effective_spec(spec, config.normalization) if isinstance(spec, InputSpec) else spec


def packages_of(config: FitConfig) -> list[str]:
    """The installed packages that bring methods of this run, or its network."""
    of_methods = {record.package for entry in config.methods if (record := method_record(entry["name"])).package}
    return sorted(of_methods | ({"tokenizers", "transformers"} if reads_texts(config.model) else set()))


def resolve_again(run: Run, overrides: Mapping[str, Any]) -> FitConfig:
    """The options of a run that goes on; what its methods need may be gone since."""
    try:
        return resolve([_recorded(run), command_line(overrides)])
    except ConfigError as error:
        packages = {name: there for name, there in run.versions.items() if there and name not in ("python", "created")}
        missing = [f"{name} {there}" for name, there in packages.items() if not _installed(name)]
        if not missing:
            raise
        raise ConfigError(f"{str(error).rstrip('.')}. The run was made with {', '.join(missing)}; install it and resume again.") from error


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _recorded(run: Run) -> Layer:
    return from_yaml(str(run.path / "config.yaml"), run.config)


def _method_name(config: FitConfig) -> str:
    """The methods as the user thinks of them: plain is not named beside others."""
    names = [str(entry["name"]) for entry in config.methods]
    return "+".join(name for name in names if name != "plain" or len(names) == 1)


def _train(run: Run, parts: Parts, engine: Engine, listener: Listener) -> Run:
    config = parts.config
    with tracking(config.tracker if engine.is_main else (), run) as tracker:
        heard = together(listener, tracker) if engine.is_main else ignore
        trainer = Trainer(_job(run, parts, engine, heard))
        heard(_started(run, parts, engine, trainer.steps_per_epoch))
        probe = solve_probe(trainer) if config.recipe == "linear-probe" else None
        if probe is None:
            trainer.train()
        result = finish(trainer, holdfast_version=version("holdfast"), model_spec=config.model, probe=probe)
        heard(RunFinished(str(run.path), result))
    return run


def _job(run: Run, parts: Parts, engine: Engine, listener: Listener) -> Job:
    config, data = parts.config, parts.data
    data_fingerprint = data.fingerprint if parts.source_data is None else f"{data.fingerprint}+{parts.source_data.fingerprint}"
    fingerprints = {
        "data": data_fingerprint,
        "reference": parts.reference.fingerprint,
        "config": config_hash(config, data_fingerprint, parts.reference.fingerprint),
    }
    return Job(
        run,
        config,
        data,
        parts.classifier,
        parts.reference,
        parts.terms,
        parts.reference_layers,
        engine,
        listener,
        fingerprints,
        _callbacks(run, parts, engine),
        parts.source_data,
        parts.criteria,
    )


def _callbacks(run: Run, parts: Parts, engine: Engine) -> list[Callback]:
    """What is measured between epochs: numbers of layers, and what ``--track`` asks for; the test split is the loop's own affair."""
    config = parts.config
    layers = LayerLog(run, parts.terms, engine.comm)
    features = FeatureTracking(
        run, parts.data, parts.classifier, engine.comm, engine.device, engine.autocast, config.data_seed, engine.in_step
    )
    return [*([features] if "features" in config.track else []), *([layers] if layers.wanted else [])]


def _started(run: Run, parts: Parts, engine: Engine, steps_per_epoch: int) -> RunStarted:
    config, data = parts.config, parts.data
    return RunStarted(
        run=str(run.path),
        model=config.model,
        method=_method_name(config),
        classes=len(data.classes),
        n_train=data.size("train"),
        n_val=data.size("val"),
        n_test=data.size("test"),
        parameters=sum(parameter.numel() for parameter in parts.classifier.parameters() if parameter.requires_grad),
        device=str(engine.device),
        total_epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        notes=tuple(parts.pretrained.notes),
    )
