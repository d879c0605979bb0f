"""``holdfast.audit``: from a run, checkpoints or a network in memory to ``audit.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from holdfast.auditing.events import AuditFinished, Listener, ignore
from holdfast.auditing.of_checkpoints import subject_of_checkpoints
from holdfast.auditing.of_objects import Batches, subject_of_objects
from holdfast.auditing.of_run import can_be_rebuilt, subject_of_run
from holdfast.auditing.options import AuditOptions, in_python
from holdfast.auditing.predictions import audit_predictions
from holdfast.auditing.record import FILE, validate_audit
from holdfast.auditing.result import Audit
from holdfast.auditing.study import study
from holdfast.errors import ConfigError, RunError
from holdfast.run import Run, atomic_write
from holdfast.run.files import plain, to_json
from holdfast.training.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from holdfast.auditing.subject import Subject
    from holdfast.measures.products import Loss

__all__ = ["audit", "audit_with"]


def audit(
    subject: Run | str | Path | nn.Module | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    train: Batches | None = None,
    test: Batches | None = None,
    loss: Loss | None = None,
    classes: Sequence[str] | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    source: str | Path | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    listener: Listener = ignore,
    **options: Any,
) -> Audit:
    """Say how far a fine-tuned network moved, how sharp its loss is along the way, and what follows; as ``holdfast audit``.

    Three kinds of subject: a finished run; ``model``, ``weights``, ``source`` and ``data`` for checkpoints made elsewhere; a network in
    memory with ``start`` and ``train``. Everything runs in eval mode; weights and modes are left as they were.

    Args:
        subject: A run or its directory, or a network in eval mode; None for checkpoints.
        start: State dict of the weights that fine-tuning started from.
        train: Batches of training data, pairs of inputs and labels that can be passed over again; inputs may be a dict.
        test: Batches of held-out data.
        loss: Logits and labels to the loss of each example (B,); cross-entropy by default.
        classes: Names of the classes of a network in memory.
        model: Spec of the network of a checkpoint.
        weights: File with its fine-tuned weights.
        source: File with the weights it started from, or a spec; for a run, where its pretrained weights are now.
        data: Its data; for a run, where its data are now.
        out: Folder for ``audit.json``, where the subject is no run.
        listener: Called with the events of ``holdfast.auditing.events``.
        options: Any option of ``holdfast audit --help``, with underscores: ``full=True``, ``budget=300``, ``over="sample"``.

    Returns:
        The audit: ``audit(run).bound.bound``, ``audit(run).layers[0].trace.value``.

    Raises:
        ConfigError: An option is wrong, or something is missing.
        RunError: This is no finished run.
        DataError: The data are gone or changed.
        ModelError: The network cannot be measured as it is.
        CheckpointError: Weights do not belong to the network.
    """
    resolved = AuditOptions.resolve(options, in_python)
    if isinstance(subject, nn.Module):
        _no_more({"model": model, "weights": weights, "source": source, "data": data}, "a network in memory")
        found = subject_of_objects(subject, start=start, train=train, test=test, loss=loss, classes=classes)
        return _finish(study(found, resolved, listener), out, found.comm.rank == 0, listener)
    _no_more({"start": start, "train": train, "test": test, "loss": loss, "classes": classes}, "anything but a network in memory")
    files = {name: None if value is None else str(value) for name, value in {"weights": weights, "source": source, "data": data}.items()}
    run = Run.open(subject) if isinstance(subject, str | Path) else subject
    return audit_with(run, resolved, model=model, out=out, listener=listener, **files)


def audit_with(
    run: Run | None,
    options: AuditOptions,
    *,
    model: str | None = None,
    weights: str | None = None,
    source: str | None = None,
    data: str | None = None,
    out: str | Path | None = None,
    listener: Listener = ignore,
) -> Audit:
    """:func:`audit` of a run or of checkpoints, with options that are resolved already."""
    engine = Engine(options.device, "fp32")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if run is not None:
        _no_more({"model": model, "weights": weights}, "a run, which has its own")
        if not can_be_rebuilt(run):
            return _finish(audit_predictions(run, options), out or run.path, engine.is_main, listener)
        make: Callable[[], Subject] = lambda: subject_of_run(run, engine, data=data, source=source, threads=options.threads)  # noqa: E731
    else:
        make = lambda: subject_of_checkpoints(  # noqa: E731
            engine, model=model, weights=weights, source=source, data=data, threads=options.threads
        )
    record = study(make(), options, listener)
    return _finish(record, out or (run.path if run is not None else None), engine.is_main, listener)


def _no_more(given: Mapping[str, Any], to: str) -> None:
    name = next((name for name, value in given.items() if value is not None), None)
    if name is not None:
        raise ConfigError(f"{in_python(name)} does not belong to {to}; leave it out.")


def _finish(record: Mapping[str, Any], folder: str | Path | None, is_main: bool, listener: Listener) -> Audit:
    """Check and write the record, as one file that takes the place of an earlier one."""
    known = plain(record)
    validate_audit(known)
    path = None if folder is None else Path(folder) / FILE
    if path is not None and is_main:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as stream:
                stream.write(to_json(known).encode())
        except OSError as error:
            raise RunError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    listener(AuditFinished(known))
    return Audit(known, path)
