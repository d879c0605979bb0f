"""From a configuration to objects, and through a whole run; the only place where data, models, methods and training meet."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from holdfast.attach import build_terms
from holdfast.config.layers import Layer, command_line, from_yaml
from holdfast.config.load import config_hash, config_to_yaml_dict, recorded_config, resolve
from holdfast.config.schema import FitConfig
from holdfast.data import ImageData, load_data
from holdfast.data.normalize import effective_spec
from holdfast.errors import ConfigError, RunError
from holdfast.models.classifier import HEAD_STD, Classifier, freeze_batchnorm
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.run import Run
from holdfast.training.engine import Engine
from holdfast.training.events import Listener, RunFinished, RunStarted, ignore
from holdfast.training.loop import Job, Trainer
from holdfast.training.result import finish
from holdfast.types import InputSpec

__all__ = ["fit_config", "load_model", "resume"]

log = logging.getLogger("holdfast")

REFERENCE_WEIGHTS = "reference.safetensors"


def fit_config(config: FitConfig, *, listener: Listener = ignore) -> Run:
    """Fine-tune as configured and write the run directory.

    Nothing is written before data and network are known to be good, so a mistyped option leaves no half-made run behind.
    """
    Run.check_vacant(config.out)
    engine = _engine(config)
    parts = _Parts.build(config, engine)
    if engine.is_main:
        run = Run.create(config.out, config_to_yaml_dict(parts.config))
        _write_sources(run, parts)
    engine.wait()
    return _train(Run.open(config.out), parts, engine, listener)


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
    config = resolve([_recorded(run), command_line({**(overrides or {}), "out": str(path)})])
    if run.has("reference.json") and run.has(REFERENCE_WEIGHTS):  # written in the other order; one alone is of no run yet
        config = dataclasses.replace(config, weights=str(run.path / REFERENCE_WEIGHTS))
    engine = _engine(config)
    parts = _Parts.build(config, engine)
    if engine.is_main and not run.has("reference.json"):
        _write_sources(run, parts)
    engine.wait()
    return _train(run, parts, engine, listener)


def _write_sources(run: Run, parts: _Parts) -> None:
    """What the run starts from: the splits, and where the pretrained weights and the head come from."""
    config, reference = parts.config, parts.reference
    run.write_splits(parts.data.splits_record())
    # A file is named by its own hash; code of the user's and random draws may give something else another day.
    reproducible = not (config.model.startswith("python:") or config.weights == "random")
    stored = reference.weights if config.store_reference == "always" or not reproducible else None
    record = {
        "schema": 1,
        "fingerprint": reference.fingerprint,
        **parts.pretrained.origin,
        "stored": stored is not None,
        "head": {"name": parts.pretrained.head_name, "init": "normal", "std": HEAD_STD, "bias": 0.0, "seed": config.seed},
    }
    run.write_reference(record, stored)


def load_model(path: str | Path) -> tuple[Classifier, tuple[str, ...], InputSpec]:
    """The network of a finished run with its selected weights, in eval mode; its class names; what images it expects."""
    run = Run.open(path)
    if not run.finished:
        raise RunError(f"{str(path)!r} has not finished training; type `{run.resume_command}`")
    config = recorded_config(from_yaml(f"{path}/config.yaml", run.config))
    classes = tuple(run.splits["classes"])
    pretrained = load_pretrained(
        config.model, weights="random", head=config.head, head_dropout=config.head_dropout, image_size=config.image_size
    )
    classifier = Classifier(pretrained.net, pretrained.head_name)
    classifier.reset_head(len(classes), seed=0)
    run.load_model(lambda: classifier.net)
    return classifier.eval(), classes, effective_spec(pretrained.input, config.normalization)


def _recorded(run: Run) -> Layer:
    return from_yaml(str(run.path / "config.yaml"), run.config)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What training works on."""

    config: FitConfig
    pretrained: Pretrained
    classifier: Classifier
    reference: FrozenReference
    data: ImageData

    @classmethod
    def build(cls, config: FitConfig, engine: Engine) -> _Parts:
        pretrained = load_pretrained(
            config.model,
            weights=config.weights,
            head=config.head,
            head_dropout=config.head_dropout,
            image_size=config.image_size,
            seed=config.seed,
        )
        for note in pretrained.notes:
            log.info(note)
        config = dataclasses.replace(config, image_size=pretrained.input.size, threads=torch.get_num_threads())
        data = load_data(config, pretrained.input)
        reference = FrozenReference.from_pretrained(pretrained)
        classifier = Classifier(pretrained.net, pretrained.head_name)
        classifier.verify(pretrained.input)
        classifier.reset_head(len(data.classes), seed=config.seed)
        _prepare(classifier, config, engine)
        if not data.has("val") and config.select != "last":
            log.warning("there is no validation split, so the last epoch's weights are kept; type --select last to say so yourself")
            config = dataclasses.replace(config, select="last")
        _check_batch(data, config, engine)
        return cls(config, pretrained, classifier, reference, data)


def _prepare(classifier: Classifier, config: FitConfig, engine: Engine) -> None:
    if config.batchnorm == "frozen":
        freeze_batchnorm(classifier.net)
    elif engine.comm.size > 1 and engine.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
    if config.compile:
        classifier.compile()


def _check_batch(data: ImageData, config: FitConfig, engine: Engine) -> None:
    """A training split smaller than the batch is one batch of its own size, which ranks and micro-batches must divide too."""
    batch, parts = data.effective_batch_size(config.batch_size), engine.comm.size * config.accumulate
    if batch % parts:
        raise ConfigError(
            f"--batch-size {config.batch_size}: the training split has {batch} examples, which {engine.comm.size} rank(s) x --accumulate "
            f"{config.accumulate} do not divide; type --batch-size {max(parts, batch // parts * parts)}"
        )


def _engine(config: FitConfig) -> Engine:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        # cuBLAS reads this when it starts; it is what torch asks for by name otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = config.deterministic
    return Engine(config.device, config.precision)


def _method_name(config: FitConfig) -> str:
    """The methods as the user thinks of them: plain is not named beside others."""
    names = [str(entry["name"]) for entry in config.methods]
    return "+".join(name for name in names if name != "plain" or len(names) == 1)


def _train(run: Run, parts: _Parts, engine: Engine, listener: Listener) -> Run:
    config, data = parts.config, parts.data
    fingerprints = {
        "data": data.fingerprint,
        "reference": parts.reference.fingerprint,
        "config": config_hash(config, data.fingerprint, parts.reference.fingerprint),
    }
    heard = listener if engine.is_main else ignore
    job = Job(run, config, data, parts.classifier, parts.reference, build_terms(config.methods), engine, heard, fingerprints)
    trainer = Trainer(job)
    heard(
        RunStarted(
            run=str(run.path),
            model=config.model,
            method=_method_name(config),
            classes=len(data.classes),
            n_train=data.size("train"),
            n_val=data.size("val"),
            n_test=data.size("test"),
            parameters=sum(parameter.numel() for parameter in parts.classifier.parameters()),
            device=str(engine.device),
            total_epochs=config.epochs,
            steps_per_epoch=trainer.steps_per_epoch,
            notes=tuple(parts.pretrained.notes),
        )
    )
    trainer.train()
    result = finish(trainer, holdfast_version=version("holdfast"), model_spec=config.model)
    heard(RunFinished(str(run.path), result))
    return run
