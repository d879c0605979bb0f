"""What methods and options need of each other and of the data: checked once both are known, before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from holdfast.attach import check_classes
from holdfast.config.schema import FitConfig
from holdfast.data import RunData
from holdfast.errors import ConfigError
from holdfast.objective import WeightedTerm
from holdfast.regularizers.delta import Delta
from holdfast.terms import TaskLoss
from holdfast.training.optim import warmup_steps
from holdfast.types import InputSpec, TextSpec

__all__ = ["check_data", "check_inputs", "check_terms"]

log = logging.getLogger("holdfast")


def check_terms(config: FitConfig, terms: Sequence[WeightedTerm]) -> None:
    """Refuse options that leave out what a method needs.

    Raises:
        ConfigError: One sentence on the first misfit.
    """
    _check_source_data(config, terms)
    comparing = [weighted.name for weighted in terms if weighted.term.NEEDS.views]
    if comparing and config.augment == "none":
        raise ConfigError(
            f"--augment none: method {comparing[0]!r} compares augmented views of an image, which would all be the same; "
            "type --augment crop or resized-crop"
        )
    live = [weighted.name for weighted in terms if weighted.term.NEEDS.live_batchnorm]
    if live and config.batchnorm == "frozen":
        raise ConfigError(
            f"--batchnorm frozen: method {live[0]!r} needs BatchNorm that follows the batches; leave the option out, or the method"
        )
    whole = [weighted.name for weighted in terms if not weighted.term.SHARDED]
    if config.strategy == "fsdp" and whole:
        raise ConfigError(
            f"--strategy fsdp: method {whole[0]!r} needs whole weights as it is asked for here, and they are spread over ranks; take "
            "--strategy ddp"
        )
    _warn_of_late_starts(config)


def check_inputs(spec: InputSpec | TextSpec, terms: Sequence[WeightedTerm]) -> None:
    """Refuse methods that need more than texts can give.

    Raises:
        ConfigError: One sentence on the first misfit.
    """
    comparing = [weighted.name for weighted in terms if weighted.term.NEEDS.views]
    if comparing and isinstance(spec, TextSpec):
        raise ConfigError(
            f"--method {comparing[0]}: compares augmented views of an image, and texts have none; choose another method, such as adarand"
        )
    for weighted in terms if isinstance(spec, TextSpec) else ():
        if isinstance(weighted.term, Delta):
            weighted.term.check_texts()
        if isinstance(weighted.term, TaskLoss) and type(weighted.term).prepare is not TaskLoss.prepare:
            raise ConfigError(f"--method {weighted.name}: mixes inputs with each other, and texts cannot be mixed; choose another loss")
        if isinstance(spec, TextSpec) and isinstance(weighted.term, TaskLoss) and type(weighted.term).prepare is not TaskLoss.prepare:
            raise ConfigError(f"--method {weighted.name}: mixes images, and texts cannot be mixed; choose another method, such as gce")


def check_data(config: FitConfig, data: RunData, terms: Sequence[WeightedTerm], *, ranks: int) -> None:
    """Refuse options that do not fit the data.

    Raises:
        ConfigError: One sentence on the first misfit.
    """
    _check_weights(data, config, terms)
    check_classes(terms, len(data.classes), label="--method {}")
    if not data.has("val") and config.patience is not None:
        raise ConfigError(
            f"--patience {config.patience}: there is no validation split to judge epochs by; "
            "give --val-fraction, such as 0.1, or leave --patience out"
        )
    _check_batch(data, config, ranks)
    _check_warmup(data, config)
    _check_track(data, config)


def _warn_of_late_starts(config: FitConfig) -> None:
    """A method that begins after the last epoch is plain fine-tuning by another name."""
    for entry in config.methods:
        for option in ("start_epoch", "warmup_epochs"):
            if isinstance(epoch := entry.get(option), int) and epoch >= config.epochs:
                log.warning(
                    "method %r begins after %d epochs, and this run has %d: it is plain fine-tuning; give --method.%s.%s a smaller number",
                    *(entry["name"], epoch, config.epochs, entry["name"], option),
                )


def _check_source_data(config: FitConfig, terms: Sequence[WeightedTerm]) -> None:
    wanting = [weighted.name for weighted in terms if "source" in weighted.term.NEEDS.extra]
    if wanting and config.source_data is None:
        raise ConfigError(
            f"--method {wanting[0]}: needs the data that the network was pretrained on; add --source-data with a folder or table of it"
        )
    if config.source_data is not None and not wanting:
        raise ConfigError(f"--source-data {config.source_data}: no method of this run trains on it; leave it out, or type --method uot")


def _check_weights(data: RunData, config: FitConfig, terms: Sequence[WeightedTerm]) -> None:
    """A task loss that knows nothing of weights must not leave them out in silence."""
    deaf = [weighted.name for weighted in terms if isinstance(weighted.term, TaskLoss) and not weighted.term.NEEDS.weights]
    if data.weighted and deaf:
        balanced = config.class_weights != "none"
        given = f"--class-weights {config.class_weights}" if balanced else f"{config.data} gives weights to its examples"
        what = "leave the option out, type --sampling balanced instead" if balanced else "give a table without the column weight"
        raise ConfigError(f"{given}: method {deaf[0]!r} takes no weights of examples; {what}, or choose another method.")


def _check_batch(data: RunData, config: FitConfig, ranks: int) -> None:
    """A training split smaller than the batch is one batch of its own size, which ranks and micro-batches must divide too."""
    batch, parts = data.effective_batch_size(config.batch_size), ranks * config.accumulate
    if batch % parts:
        raise ConfigError(
            f"--batch-size {config.batch_size}: the training split has {batch} examples, which {ranks} rank(s) x --accumulate "
            f"{config.accumulate} do not divide; type --batch-size {max(parts, batch // parts * parts)}"
        )


def _check_warmup(data: RunData, config: FitConfig) -> None:
    per_epoch = data.steps_per_epoch(config.batch_size)
    steps, total = warmup_steps(config, per_epoch), per_epoch * config.epochs
    if steps > total:
        raise ConfigError(
            f"--warmup-steps {steps}: longer than the run, which has {total} steps ({config.epochs} epochs of {per_epoch}); "
            "choose a smaller one, or give --warmup-epochs"
        )


def _check_track(data: RunData, config: FitConfig) -> None:
    if "test" not in config.track:
        return
    if not data.has("test"):
        raise ConfigError(f"--track test: there is no test split in {config.data!r}; give one, name it with --test-split, or leave it out")
    log.warning(
        "--track test opens the test split after every epoch: a choice made by what it shows, 'best-by-test' in the result above all, is "
        "optimistic and no estimate of what new data will give"
    )
