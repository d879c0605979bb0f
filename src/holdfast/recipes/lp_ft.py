"""``fit --recipe lp-ft``: the linear probe first, then all weights from its head.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022: a head that fits the
pretrained features leaves them less to be bent for. Two phases: ``RUN/probe/`` is the run of the probe, an ordinary one, then ``RUN``
is trained as without a recipe, by whatever method, from the pretrained backbone and the head of the probe. What a method takes from the
pretrained network it takes at the start of the second phase, where the backbone is as pretrained still.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast import build
from holdfast.attach import build_terms, head_form
from holdfast.catalog import parse_methods
from holdfast.config.load import config_to_yaml_dict
from holdfast.config.schema import FitConfig
from holdfast.models.freeze import freeze_parameters
from holdfast.models.select import BACKBONE
from holdfast.parts import Parts, make_engine
from holdfast.recorded import PROBE
from holdfast.run import Run
from holdfast.training.engine import Engine
from holdfast.training.events import Listener

__all__ = ["fit_lp_ft", "resume_lp_ft"]


def fit_lp_ft(config: FitConfig, *, listener: Listener) -> Run:
    """Both phases. Nothing is written before data, network and methods are known to be good.

    Raises:
        HoldfastError: Something cannot be used as it is.
    """
    Run.check_vacant(config.out)
    engine = make_engine(config)
    parts = Parts.build(config, engine)
    if engine.is_main:
        Run.create(config.out, config_to_yaml_dict(parts.config), packages=build.packages_of(parts.config))
    engine.wait()
    return _both(Run.open(config.out), parts, engine, listener)


def resume_lp_ft(path: str | Path, *, overrides: Mapping[str, Any], listener: Listener) -> Run:
    """Go on in the phase that a run stopped in."""
    run = Run.open(path)
    if run.has("reference.json"):  # which the second phase begins with
        return build.resume(path, overrides=overrides, listener=listener)
    config = build.resolve_again(run, {**overrides, "out": str(path)})
    engine = make_engine(config)
    return _both(run, Parts.build(config, engine), engine, listener)


def _both(run: Run, parts: Parts, engine: Engine, listener: Listener) -> Run:
    """The probe, unless it is finished, then the run, which takes its head from there."""
    probe = _probe_of(parts, str(run.path / PROBE))
    folder = Path(probe.config.out)
    if engine.is_main and not (folder / "config.yaml").is_file():
        Run.create(folder, config_to_yaml_dict(probe.config), packages=build.packages_of(probe.config))
    engine.wait()
    if not Run.open(folder).finished:
        build.go_on(Run.open(folder), probe, engine, listener)
    engine.wait()
    return build.go_on(run, parts, engine, listener)


def _probe_of(parts: Parts, out: str) -> Parts:
    """The same data and pretrained network, with a head of its own that has an output for each class, and nothing else to train."""
    terms = build_terms(parse_methods("plain"))
    options: dict[str, Any] = {"recipe": "linear-probe", "freeze": [BACKBONE], "ema": None, "select_weights": "auto", "patience": None}
    config = dataclasses.replace(parts.config, method=parse_methods("plain"), source_data=None, track=[], tracker=[], out=out, **options)
    classifier = parts.reference.trainable_copy()
    form = dataclasses.replace(head_form(parts.terms), extra=0)
    classifier.reset_head(len(parts.data.classes), seed=config.seed, form=form)
    freeze_parameters(classifier, config.freeze)
    return dataclasses.replace(parts, config=config, classifier=classifier, terms=terms, reference_layers=(), source_data=None)
