"""From options to objects: the network, the data and the methods of a run."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from holdfast.attach import build_terms, head_form, prepare_network
from holdfast.catalog import reads_texts
from holdfast.config.schema import RELEVANT_FIELDS, FitConfig
from holdfast.data import RunData, load_data
from holdfast.distributed import gather_objects
from holdfast.errors import ConfigError, DataError
from holdfast.models.checkpointing import checkpoint_blocks
from holdfast.models.classifier import Classifier, freeze_batchnorm, synchronize_batchnorm
from holdfast.models.freeze import freeze_parameters
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.memory_format import prefers_channels_last, to_channels_last
from holdfast.models.reference import FrozenReference
from holdfast.objective import WeightedTerm
from holdfast.requirements import check_data, check_inputs, check_terms
from holdfast.training.criteria import Criterion, further_criteria
from holdfast.training.engine import Engine
from holdfast.types import InputSpec, TextSpec

__all__ = ["Parts", "make_engine"]

log = logging.getLogger("holdfast")


def make_engine(config: FitConfig) -> Engine:
    """The device, threads and determinism of a run."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        # cuBLAS reads this when it starts; it is what torch asks for by name otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = config.deterministic
    engine = Engine(config.device, config.precision, config.strategy)
    _check_same_options(config, engine)
    return engine


def _check_same_options(config: FitConfig, engine: Engine) -> None:
    """Ranks are parts of one run, not runs of their own that a cluster started side by side.

    Raises:
        ConfigError: Names an option of which two ranks have different values.
    """
    compared = {*RELEVANT_FIELDS, "data", "out", "strategy"}
    own = {key: value for key, value in dataclasses.asdict(config).items() if key in compared}
    first, *others = gather_objects(own, engine.comm)
    for rank, options in enumerate(others, start=1):
        for key, value in options.items():
            if value != first[key]:
                raise ConfigError(
                    f"--{key.replace('_', '-')} {first[key]}: it is {value!r} on rank {rank}, and the ranks of a run have the same "
                    "options; for runs of their own start each with srun --ntasks 1, or without torchrun"
                )


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run works on: data, network, methods, made from its options."""

    config: FitConfig
    pretrained: Pretrained
    classifier: Classifier
    reference: FrozenReference
    data: RunData
    terms: list[WeightedTerm]
    reference_layers: tuple[str, ...]
    source_data: RunData | None
    criteria: Mapping[str, Criterion]

    @classmethod
    def build(cls, config: FitConfig, engine: Engine) -> Parts:
        """Everything that is known before the first pass over the data; nothing is written.

        Raises:
            ConfigError: Options, methods and data do not fit each other.
            DataError: The data cannot be used as they are.
            ModelError: The network cannot be used, or lacks what a method needs.
        """
        terms = build_terms(config.methods)
        check_terms(config, terms)
        pretrained = _load_network(config)
        last = _uses_channels_last(config, pretrained.net, engine)
        if last:
            to_channels_last(pretrained.net)  # and with it the reference, which is a copy
        config = dataclasses.replace(
            config, **_filled_in(pretrained.input), threads=torch.get_num_threads(), channels_last="on" if last else "off"
        )
        check_inputs(pretrained.input, terms)
        data = load_data(config, pretrained.input)
        check_data(config, data, terms, ranks=engine.comm.size)
        reference = FrozenReference.from_pretrained(pretrained)
        classifier = Classifier(pretrained.net, pretrained.head_name)
        classifier.verify(pretrained.input)
        _prepare_batchnorm(classifier, config, engine, terms)
        reference_layers = prepare_network(classifier, reference, terms)
        classifier.verify_layers(pretrained.input)
        classifier.reset_head(len(data.classes), seed=config.seed, form=head_form(terms))
        _finish_network(classifier, config)
        if not data.has("val") and config.select != "last":
            log.warning("there is no validation split, so the last epoch's weights are kept; type --select last to say so yourself")
            config = dataclasses.replace(config, select="last")
        source_data = _load_source_data(config, pretrained.input)
        criteria = further_criteria(config, data)
        return cls(config, pretrained, classifier, reference, data, terms, reference_layers, source_data, criteria)


def _load_network(config: FitConfig) -> Pretrained:
    pretrained = load_pretrained(
        config.model,
        weights=config.weights,
        head=config.head,
        head_dropout=config.head_dropout,
        image_size=config.image_size,
        max_length=config.max_length,
        seed=config.seed,
    )
    for note in pretrained.notes:
        log.info(note)
    return pretrained


def _filled_in(spec: InputSpec | TextSpec) -> dict[str, Any]:
    """What the network decides of the options where the user did not."""
    return {"max_length": spec.max_length} if isinstance(spec, TextSpec) else {"image_size": spec.size}


def _finish_network(classifier: Classifier, config: FitConfig) -> None:
    """What must come after the head is new and the layers are caught: hooks that are placed after compilation never fire."""
    freeze_parameters(classifier, config.freeze)
    if config.gradient_checkpointing:
        checkpoint_blocks(classifier.net, classifier.head_name, compiled=config.compile)
    if config.compile:
        torch.compiler.reset()  # of one function it keeps no more than eight forms in a process, and then gives up without a word
        # Images have one size, and texts another length in every batch.
        classifier.compile(**({"dynamic": True} if reads_texts(config.model) else {}))


def _uses_channels_last(config: FitConfig, net: nn.Module, engine: Engine) -> bool:
    if config.strategy == "fsdp":
        if config.channels_last == "on":
            log.warning("--channels-last on: left out, since FSDP takes no weights in that order")
        return False
    if config.channels_last == "auto":
        return prefers_channels_last(net, device=engine.device.type, precision=config.precision)
    return config.channels_last == "on"


def _prepare_batchnorm(classifier: Classifier, config: FitConfig, engine: Engine, terms: Sequence[WeightedTerm]) -> None:
    live = [weighted.name for weighted in terms if weighted.term.NEEDS.live_batchnorm]
    if config.batchnorm == "frozen":
        freeze_batchnorm(classifier.net)
    elif engine.comm.size > 1 and engine.device.type == "cuda":
        if live:
            log.warning("method %r: BatchNorm statistics stay those of each rank", live[0])
        else:
            synchronize_batchnorm(classifier.net)


def _load_source_data(config: FitConfig, spec: InputSpec | TextSpec) -> RunData | None:
    """The data of pretraining, all of which may be trained on; the options that cut and weigh are those of the run's own data."""
    if config.source_data is None:
        return None
    cutting = ("train_list", "train_labels", "shots", "train_fraction", "folds", "fold", "group_by", "test_split")
    usual = {name: getattr(FitConfig, name) for name in cutting}
    plain = dataclasses.replace(config, data=config.source_data, sampling="uniform", class_weights="none", val_fraction=0.0, **usual)
    try:
        return load_data(plain, spec, whole=True)
    except DataError as error:
        raise DataError(f"--source-data: {error}") from error
