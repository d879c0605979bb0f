"""``fit --labels robust``: estimate how labels are wrong, correct the loss by it, hold the weights near their start, select by it.

The algorithm of Ju, Li and Zhang (ICML 2022), with two liberties: F comes from features of the pretrained network unless a first run is
asked for, and the loss is corrected forward unless ``--method backward`` is, since it is never negative. And where F cannot correct, as
with labels made by rules, but labels of val are clean, training is on labels that were revised with their help. Two phases:
``RUN/estimate/`` gets the matrix, then ``RUN`` is an ordinary run whose ``config.yaml`` says what was decided, which is where a killed
recipe goes on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast import build
from holdfast.catalog import parse_methods
from holdfast.config.load import config_to_yaml_dict
from holdfast.config.schema import FitConfig
from holdfast.errors import DataError
from holdfast.labels.transition import Matrix, check_correctable, read_transition, refusal
from holdfast.parts import Parts, make_engine
from holdfast.recipes.label_estimate import ESTIMATE, estimate_labels
from holdfast.recipes.label_revision import REVISED
from holdfast.run import Run
from holdfast.training.engine import Engine
from holdfast.training.events import Listener

__all__ = ["after_estimate", "decide", "fit_robust", "resume_robust"]

log = logging.getLogger("holdfast")

CORRECTION = "forward"
"""What corrects the loss, where no loss was chosen."""

WITHOUT_MATRIX = "label-smoothing"
"""What is trained with where the matrix cannot correct and labels cannot be revised.

Not ``gce``: where one class has most of the labels it may predict that alone.
"""


def fit_robust(config: FitConfig, *, listener: Listener) -> Run:
    """Both phases. Nothing is written before data, network and a matrix that was given are known to be good.

    Raises:
        HoldfastError: Something cannot be used as it is.
    """
    Run.check_vacant(config.out)
    engine = make_engine(config)
    parts = Parts.build(before_estimate(config), engine)
    _check_given(config, len(parts.data.classes))
    if engine.is_main:
        filled_in = dataclasses.replace(parts.config, method=config.method, transition=config.transition, select=_select(config, parts))
        Run.create(config.out, config_to_yaml_dict(filled_in), packages=build.packages_of(parts.config))
    engine.wait()
    _prepare(Run.open(config.out), parts, engine, listener)
    return build.resume(config.out, listener=listener)


def resume_robust(path: str | Path, *, overrides: Mapping[str, Any], listener: Listener) -> Run:
    """Go on in the phase that a run stopped in; once training has begun everything is decided."""
    run = Run.open(path)
    if not run.has("reference.json"):
        config = build.resolve_again(run, {**overrides, "out": str(path)})
        engine = make_engine(config)
        _prepare(run, Parts.build(before_estimate(config), engine), engine, listener)
    return build.resume(path, overrides=overrides, listener=listener)


def before_estimate(config: FitConfig) -> FitConfig:
    """The options with all replaced that needs a matrix which is not known yet: what data and network can be tried with."""
    methods = [parse_methods("plain")[0] if entry.get("transition") == "none" else entry for entry in config.methods]
    select = "val-accuracy" if config.select == "val-corrected" else config.select
    return dataclasses.replace(config, method=methods, transition=None, select=select)


def after_estimate(config: FitConfig) -> FitConfig:
    """The options as they will probably be decided, for a plan: with a matrix that stands for the one to be estimated."""
    if _given_labels(config):
        return _without_matrix(config)
    spec = config.matrix or "symmetric:0.1"
    return dataclasses.replace(config, method=[_with_matrix(entry, spec, None) for entry in config.methods], transition=spec)


def _select(config: FitConfig, parts: Parts) -> Any:
    """As asked for, unless there is no validation split."""
    return parts.config.select if parts.config.select == "last" else config.select


def _check_given(config: FitConfig, num_classes: int) -> None:
    """A matrix that the user gave must be one that corrects; one that was estimated may turn out not to be."""
    if config.matrix is not None:
        matrix = read_transition(config.matrix, num_classes, name="--transition")
        check_correctable(matrix, f"--transition {config.matrix}", force=_forced(config))


def _forced(config: FitConfig) -> bool:
    return any(entry.get("force", False) for entry in config.methods)


def _prepare(run: Run, parts: Parts, engine: Engine, listener: Listener) -> None:
    """The first phase, unless it is finished, and what follows from it: ``config.yaml`` as the second phase begins with."""
    file, revised = run.path / ESTIMATE, run.path / REVISED
    config = build.resolve_again(run, {})
    if config.matrix is None and not _given_labels(config) and not file.is_file():
        estimate_labels(run, config, parts, engine, listener)
    engine.wait()
    if engine.is_main:
        run.write_config(config_to_yaml_dict(_decided(config, parts, file, revised)))
    engine.wait()


def _decided(config: FitConfig, parts: Parts, file: Path, revised: Path) -> FitConfig:
    if _given_labels(config):
        log.warning("--labels robust: training is on the labels of %s, so nothing is estimated from them", config.train_labels)
        return _without_matrix(config)
    spec = config.matrix or str(file)
    matrix = read_transition(spec, len(parts.data.classes), name="--transition")
    val_labels = str(parts.data.splits_record()["val_labels"])
    return decide(config, matrix, spec, val_labels=val_labels, revised=str(revised) if revised.is_file() else None)


def _given_labels(config: FitConfig) -> bool:
    """Whether somebody revised the labels, the user or an earlier call: nothing is estimated from them again."""
    return config.train_labels is not None and config.matrix is None


def _without_matrix(config: FitConfig) -> FitConfig:
    """Selected by what needs none."""
    return dataclasses.replace(config, select="val-accuracy") if config.select == "val-corrected" else config


def decide(config: FitConfig, matrix: Matrix, spec: str, *, val_labels: str, revised: str | None = None) -> FitConfig:
    """The options of the run that a matrix leads to; those that were decided so lead to themselves.

    Args:
        config: Options as given.
        matrix: F (K, K).
        spec: How ``--transition`` names it.
        val_labels: Whether the labels of val are ``clean``.
        revised: A table of revised labels, where there is one.

    Returns:
        With ``forward`` as the loss where none was chosen; where the matrix cannot correct on revised labels, or with ``label-smoothing``;
        with the matrix for a correction that lacks one; selected by accuracy where the labels of val are clean or no matrix can correct for
        them.

    Raises:
        DataError: A correction was chosen, and the matrix cannot correct.
    """
    problem = None if _forced(config) else refusal(matrix)
    if problem is not None and revised is not None and config.methods[0]["name"] == "plain":
        log.warning(
            "--labels robust: how often each class is labelled as each other cannot correct the loss (%s), so training is on labels that "
            "were revised with the help of the clean labels of val, in %s, and those select the epoch",
            *(problem, revised),
        )
        return _without_matrix(dataclasses.replace(config, train_labels=revised))
    methods = [_with_matrix(entry, spec, problem) for entry in config.methods]
    usable = refusal(matrix) is None
    if config.select == "val-corrected" and (val_labels == "clean" or not usable):
        why = "its labels are clean, which takes checked labels" if usable else "there is no matrix to correct it by"
        log.warning("--labels robust: the epoch is selected by val-accuracy, not val-corrected: %s", why)
        config = dataclasses.replace(config, select="val-accuracy")
    return dataclasses.replace(config, method=methods, transition=spec if usable else None)


def _with_matrix(entry: dict[str, Any], spec: str, problem: str | None) -> dict[str, Any]:
    """A method of the second phase."""
    if entry["name"] == "plain":
        if problem is None:
            return {**parse_methods(CORRECTION)[0], "transition": spec}
        log.warning(
            "--labels robust: how often each class is labelled as each other cannot correct the loss (%s), so the loss is %s, which needs "
            "no matrix; val with labels that somebody has checked (--val-labels clean) would help more",
            *(problem, WITHOUT_MATRIX),
        )
        return parse_methods(WITHOUT_MATRIX)[0]
    if entry.get("transition") != "none":
        return entry
    if problem is not None:
        name = entry["name"]
        raise DataError(
            f"--method {name}: {problem}, as estimated in {spec}; start a new run without --method, which then needs no matrix, or insist "
            f"with --method.{name}.force true"
        )
    return entry | {"transition": spec}
