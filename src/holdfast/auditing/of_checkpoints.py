"""Checkpoints made elsewhere as the subject of an audit: a network with two sets of weights, and data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from holdfast.auditing.of_run import CROSS_ENTROPY
from holdfast.auditing.subject import Subject, start_for
from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.data.opening import open_source
from holdfast.errors import CheckpointError, ConfigError, DataError, ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.training.engine import Engine

__all__ = ["subject_of_checkpoints"]


def subject_of_checkpoints(
    engine: Engine, *, model: str | None, weights: str | None, source: str | None, data: str | None, threads: int | None
) -> Subject:
    """A network that something else has trained.

    Args:
        engine: Where to compute.
        model: Spec of the network, such as ``timm:resnet50``.
        weights: File with the fine-tuned weights; None where ``model`` brings them.
        source: File with the weights it started from, or a spec that brings them.
        data: Its data; splits that are given are used, otherwise all of it counts as training data.
        threads: Threads that read images.

    Raises:
        ConfigError: Something is missing, or the data have other classes than the network.
        CheckpointError: A file does not belong to the network.
        ModelError: The start is a network of another architecture.
    """
    missing = [flag for flag, value in (("--model", model), ("--source", source), ("--data", data)) if not value]
    if missing or model is None or source is None or data is None:
        raise ConfigError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; a checkpoint is audited with --model SPEC "
            "--weights FILE --source FILE --data DATA, where --source is what fine-tuning started from."
        )
    tuned = load_pretrained(model, weights=weights)
    start = _start(source, model)
    classifier = Classifier(tuned.net, tuned.head_name)
    notes = [*tuned.notes, *_head_note(classifier, start)]
    examples, note = _data(data, tuned, threads)
    outputs = classifier.head.out_features
    if outputs != len(examples.classes):
        raise ConfigError(f"--data {data}: it has {len(examples.classes)} classes, but the head of the network has {outputs} outputs.")
    net = classifier.net.float().to(engine.device).eval()
    state = start.net.float().state_dict()
    return Subject(
        net=net,
        head_name=classifier.head_name,
        start=start_for(net, classifier.head_name, state, label=f"--source {source}"),
        loss=CROSS_ENTROPY,
        loss_name="cross-entropy",
        data=examples,
        classes=examples.classes,
        comm=engine.comm,
        description={
            "model": f"{model}, weights {weights}" if weights else model,
            "source": source,
            "data": data,
            "reference_fingerprint": fingerprint_tensors(state),
            "data_fingerprint": examples.fingerprint,
        },
        notes=(*notes, *note),
    )


def _start(source: str, model: str) -> Pretrained:
    """The start, from a file for the same network or from a spec of its own."""
    is_spec = ":" in source and not Path(source).exists()
    try:
        return load_pretrained(source if is_spec else model, weights=None if is_spec else source)
    except (CheckpointError, ConfigError, ModelError) as error:
        message = str(error)
        for typed in (f"--weights {source}", f"--model {source}", f"--model: {source!r}"):
            message = message.replace(typed, f"--source {source}")
        raise type(error)(message if "--source" in message else f"--source {source}: {message}") from error


def _head_note(classifier: Classifier, start: Pretrained) -> list[str]:
    """The start's head is another one where it has other classes; then nothing is known of that of the network."""
    before, now = start.net.state_dict(), classifier.net.state_dict()
    name = f"{classifier.head_name}.weight"
    if name in before and before[name].shape == now[name].shape:
        return []
    return [f"The start has no head like that of the network, whose initial value is not known, so {name} is measured from zero."]


def _data(spec: str, tuned: Pretrained, threads: int | None) -> tuple[RunData, list[str]]:
    """Splits as they are given; without any, nobody knows what was trained on, and all of it counts."""
    config = dataclasses.replace(FitConfig(), data=spec, val_fraction=0.0, threads=threads)
    try:
        given = open_source(spec).listing.given is not None
        examples = load_data(config, tuned.input, whole=not given)
    except DataError as error:
        raise DataError(f"--data {error}") from error
    if given:
        return examples, []
    return examples, [f"{spec} has no splits, so all of it counts as training data, and there is no gap and no calibration."]
