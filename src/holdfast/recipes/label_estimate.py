"""The first phase of ``--labels robust``: how often each class is labelled as each other, estimated on the training split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from holdfast import build
from holdfast.catalog import parse_methods
from holdfast.config.schema import FitConfig
from holdfast.labels import cross_validated_probabilities, empirical_transition, estimate_transition
from holdfast.labels.arrays import FloatArray
from holdfast.parts import Parts
from holdfast.recipes.label_revision import revise, teaches
from holdfast.run import Run
from holdfast.run.files import to_json
from holdfast.training.engine import Engine
from holdfast.training.evaluate import predict_batches
from holdfast.training.events import Listener, SetupStarted

__all__ = ["ESTIMATE", "FIRST_RUN", "estimate_labels"]

ESTIMATE = "estimate/transition.json"
FIRST_RUN = "estimate/run"
DRAWS = 200
"""Bootstrap resamples for the intervals."""


def estimate_labels(run: Run, config: FitConfig, parts: Parts, engine: Engine, listener: Listener) -> None:
    """Estimate F and write ``estimate/transition.json``; on all ranks, of which rank 0 writes.

    By default each label is judged by a classifier on features of the pretrained network that was fitted without it, or where the labels of
    val are clean by one that these have taught; with ``--estimate-from run`` by the network of a first run on the labels as they are, in
    ``estimate/run/``, as in Ju et al.
    """
    data, classes = parts.data, len(parts.data.classes)
    known: dict[str, Any] = {}
    if config.estimate_from == "run":
        probs = _of_first_run(run, config, parts, engine, listener)
        found = estimate_transition(probs, data.labels("train"), draws=DRAWS) if engine.is_main else None
    elif not engine.is_main:
        return
    elif teaches(data):
        listener(SetupStarted("labels robust"))
        features = {split: _features(parts, engine, split) for split in ("train", "val")}
        found, known = revise(run, data, features, seed=config.data_seed)
    else:
        listener(SetupStarted("labels robust"))
        probs = cross_validated_probabilities(_features(parts, engine, "train"), data.labels("train"), classes, seed=config.data_seed)
        found = estimate_transition(probs, data.labels("train"), draws=DRAWS)
    if found is None:
        return
    record = found.record(config.data, data.size("train"), data.classes) | {"from": config.estimate_from, **known}
    with run.writing(ESTIMATE) as stream:
        stream.write(to_json(record | _error(parts, found.transition)).encode())


def _features(parts: Parts, engine: Engine, split: str) -> FloatArray:
    """Pooled features (N, D) of the examples of a split, by the pretrained network."""
    reference = parts.reference.to(engine.device)
    batches = parts.data.batches(split, device=engine.device)
    found = torch.cat([reference.features(batch.inputs)["pooled"].float().cpu() for batch in batches])
    return found.numpy().astype(np.float64)


def _of_first_run(run: Run, config: FitConfig, parts: Parts, engine: Engine, listener: Listener) -> FloatArray:
    """Class probabilities (N, K) of the training examples, by a network that was trained on their labels."""
    folder = run.path / FIRST_RUN
    if (folder / "config.yaml").is_file():
        build.resume(folder, listener=listener)
    else:
        build.fit_config(_first_config(config, parts, str(folder)), listener=listener)
    classifier, _, _ = build.load_model(folder)
    classifier.to(engine.device)
    comm = engine.comm
    batches = parts.data.batches("train", rank=comm.rank, size=comm.size, device=engine.device)
    return predict_batches(classifier, batches, engine, len(parts.data.classes)).logits.double().softmax(dim=1).numpy()


def _first_config(config: FitConfig, parts: Parts, out: str) -> FitConfig:
    """Plain loss and the constraints, selected by accuracy on the noisy labels of val."""
    methods = [parse_methods("plain")[0], *(entry for entry in config.methods if entry["name"].startswith("distance"))]
    options: dict[str, Any] = {"labels": "as-given", "estimate_from": "features", "transition": None, "out": out}
    return dataclasses.replace(config, method=methods, select=parts.config.select, **options)


def _error(parts: Parts, transition: FloatArray) -> dict[str, float]:
    """Sum of the absolute errors, where the data tells the truth, which the estimate has not seen."""
    truth = parts.data.true_labels("train")
    if truth is None or not (known := truth >= 0).any():
        return {}
    right = empirical_transition(truth[known], parts.data.labels("train")[known], len(transition))
    return {"error": float(np.abs(transition - right).sum())}
