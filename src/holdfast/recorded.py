"""The parts of a finished run, made again from what its directory records: network, start, data."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from holdfast.config.layers import from_yaml
from holdfast.config.load import recorded_config
from holdfast.config.schema import FitConfig
from holdfast.data import RunData, load_data
from holdfast.errors import CheckpointError, ConfigError, DataError, ModelError, RunError
from holdfast.models.classifier import Classifier
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.head import head_in, set_head
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.models.text_form import TextForm
from holdfast.run import Run
from holdfast.types import HeadForm

__all__ = ["check_finished", "config_of", "data_of", "network_of", "probed_head", "start_of"]

REFERENCE_WEIGHTS = "reference.safetensors"

PROBE = "probe"
"""Where in a run's directory the first phase of ``--recipe lp-ft`` has its own."""


def check_finished(run: Run) -> None:
    """Refuse a run that is still being trained.

    Raises:
        RunError: It says what to type.
    """
    if not run.finished:
        raise RunError(f"{str(run.path)!r} has not finished training; type `{run.resume_command}`")


def config_of(run: Run) -> FitConfig:
    """The options that a run recorded.

    Raises:
        ConfigError: These are no options of ``holdfast fit``.
    """
    return recorded_config(from_yaml(f"{run.path}/config.yaml", run.config))


def network_of(run: Run) -> tuple[Classifier, Pretrained]:
    """The network of a finished run with its selected weights, in eval mode, and the recipe it was built by."""
    check_finished(run)
    pretrained = _pretrained(run, "random")
    classifier = _with_head(pretrained, run, seed=0)
    run.load_model(lambda: classifier.net)
    classifier.keep_outputs(len(run.splits["classes"]))
    return classifier.eval(), pretrained


def start_of(run: Run, weights: str | None = None) -> Classifier:
    """The network that a run started from: its pretrained weights, and the head as it was first drawn.

    Args:
        run: A run with ``reference.json``.
        weights: A file with the pretrained weights, where they are no longer where the run found them.

    Raises:
        CheckpointError: These are not the weights that the run started from.
        ModelError: The weights are gone.
    """
    config = config_of(run)
    stored = run.has(REFERENCE_WEIGHTS)
    try:
        pretrained = _pretrained(run, weights or (str(run.path / REFERENCE_WEIGHTS) if stored else config.weights))
    except (ConfigError, ModelError) as error:
        raise ModelError(
            f"the weights that {str(run.path)!r} started from cannot be read again ({str(error).rstrip('.')}); "
            "say where they are with --source FILE"
        ) from error
    found = FrozenReference.from_pretrained(pretrained).fingerprint
    if found != run.reference["fingerprint"]:
        where = f"--source {weights}" if weights else f"{pretrained.origin.get('weights') or config.model}"
        raise CheckpointError(
            f"{where}: these are not the weights that {str(run.path)!r} started from (fingerprint {found[:12]}, "
            f"recorded {run.reference['fingerprint'][:12]}); say where those are with --source FILE"
        )
    head = run.reference["head"]
    classifier = _with_head(pretrained, run, seed=head["seed"])
    if head["init"] == "probe":
        set_head(classifier.head, probed_head(run, classifier.head_name))
        if fingerprint_tensors(dict(classifier.head.named_parameters())) != head["fingerprint"]:
            raise CheckpointError(f"{str(run.path / PROBE)!r}: this is not the linear probe that {str(run.path)!r} started from")
    classifier.keep_outputs(len(run.splits["classes"]))
    return classifier.eval()


def probed_head(run: Run, head_name: str) -> dict[str, Tensor]:
    """The head that the linear probe of a run with ``--recipe lp-ft`` has left.

    Raises:
        RunError: The probe is gone, or has not finished.
    """
    probe = Run.open(run.path / PROBE)
    check_finished(probe)
    return head_in(probe.load_weights(), head_name)


def data_of(run: Run, spec: Any, *, data: str | None = None, threads: int | None = None) -> RunData:
    """The data of a run, split as it was then.

    Args:
        run: The run.
        spec: What its network expects.
        data: Where the data are now, if they were moved.
        threads: Threads that read them.

    Raises:
        DataError: They are gone, or not those that the run was trained on.
    """
    config = config_of(run)
    config = dataclasses.replace(config, data=data or config.data, threads=threads)
    try:
        found = load_data(config, spec)
    except DataError as error:
        if data is not None:
            raise DataError(f"--data {error}") from error
        raise DataError(
            f"the data of {str(run.path)!r} cannot be read again: {str(error).rstrip('.')}; say where they are now with --data"
        ) from error
    _check_same(run, found, config.data)
    return found


def _check_same(run: Run, found: RunData, where: str) -> None:
    """The examples, labels, splits and files must be those that the run recorded."""
    recorded = run.splits
    if recorded["fingerprint"] == found.fingerprint:
        return
    before = {split: set(recorded[split] or ()) for split in ("train", "val", "test")}
    now = {split: set(found.ids(split)) for split in before}
    lost, new = (len(set().union(*first.values()) - set().union(*second.values())) for first, second in ((before, now), (now, before)))
    if lost or new:
        difference = f"{lost} of its examples are gone and {new} are new"
    elif before != now:
        difference = "the splits are others"
    else:
        difference = "the examples are the same, but files or labels have changed"
    raise DataError(
        f"{where}: these are no longer the data of {str(run.path)!r}: {difference}; an audit needs the data of the training, "
        "so restore them, or say where they are with --data."
    )


def _pretrained(run: Run, weights: str | None) -> Pretrained:
    config = config_of(run)
    return load_pretrained(
        config.model,
        weights=weights,
        head=config.head,
        head_dropout=config.head_dropout,
        image_size=config.image_size,
        max_length=config.max_length,
        form=TextForm(run.network, run.reference.get("pooling")) if run.network is not None else None,
        seed=config.seed,
    )


def _with_head(pretrained: Pretrained, run: Run, seed: int) -> Classifier:
    """The network with a fresh head of the form that the run gave it."""
    classifier = Classifier(pretrained.net, pretrained.head_name)
    head = run.reference["head"]
    form = HeadForm(bias=head["bias"] is not None, std=head["std"], extra=head.get("extra", 0))
    classifier.reset_head(len(run.splits["classes"]), seed=seed, form=form)
    return classifier
