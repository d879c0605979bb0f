"""A finished run as the subject of an audit: its selected weights, its start, and its data through the same code as in training."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.nn.functional import cross_entropy

from holdfast.auditing.subject import Subject
from holdfast.config.schema import FitConfig
from holdfast.models.freeze import freeze_parameters
from holdfast.recorded import check_finished, config_of, data_of, network_of, start_of
from holdfast.run import Run
from holdfast.training.engine import Engine

__all__ = ["can_be_rebuilt", "describe_run", "subject_of_run"]

CROSS_ENTROPY = partial(cross_entropy, reduction="none")


def can_be_rebuilt(run: Run) -> bool:
    """Whether the run records what its network and its start were made of; one written by ``Run.save`` may not.

    Raises:
        RunError: It has not finished training.
    """
    check_finished(run)
    return bool(run.config.get("model")) and bool(run.config.get("data")) and run.has("reference.json") and run.has("splits.json")


def subject_of_run(run: Run, engine: Engine, *, data: str | None, source: str | None, threads: int | None) -> Subject:
    """The network of a run, in float32 whatever precision it was trained in.

    Args:
        run: A finished run.
        engine: Where to compute.
        data: Where its data are now, if they were moved.
        source: A file with its pretrained weights, if they were moved.
        threads: Threads that read images.

    Raises:
        RunError: A file of the run is missing.
        DataError: Its data are gone or changed.
        CheckpointError: The weights it started from are others now.
        ModelError: They are gone.
    """
    config = config_of(run)
    classifier, pretrained = network_of(run)
    freeze_parameters(classifier, config.freeze)
    start = start_of(run, source).net.float().to(engine.device).state_dict()
    examples = data_of(run, pretrained.input, data=data, threads=threads)
    return Subject(
        net=classifier.net.float().to(engine.device).eval(),
        head_name=classifier.head_name,
        start=start,
        loss=CROSS_ENTROPY,
        loss_name="cross-entropy",
        data=examples,
        classes=examples.classes,
        comm=engine.comm,
        description={
            **describe_run(run),
            "source": _source(run, source),
            "data": data or config.data,
            "reference_fingerprint": run.reference["fingerprint"],
            "data_fingerprint": examples.fingerprint,
        },
        notes=_notes(config),
    )


def describe_run(run: Run) -> dict[str, Any]:
    """What a run directory alone says of the subject."""
    method = run.config.get("method")
    entries = method if isinstance(method, list) else []
    names = [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]
    return {
        "run": run.path.resolve().name,
        "model": run.config.get("model") or (run.result.get("model") or {}).get("spec"),
        "data": run.config.get("data"),
        "method": "+".join(name for name in names if name != "plain" or len(names) == 1) or None,
        "classes": list(run.result["data"]["classes"] or []),
        "parameters": run.result["model"]["parameters"],
        "reference_fingerprint": run.result["model"]["reference_fingerprint"],
        "data_fingerprint": run.result["data"]["fingerprint"],
    }


def _source(run: Run, moved: str | None) -> str:
    record = run.reference
    if record.get("random"):
        return f"{record['spec']} from random weights"
    weights = moved or record.get("weights") or record.get("hub")
    return f"{record['spec']}, weights {weights}" if weights else str(record["spec"])


def _notes(config: FitConfig) -> tuple[str, ...]:
    frozen = f"Frozen weights ({', '.join(config.freeze)}) did not move and are left out." if config.freeze else ""
    weighted = (
        "The run counted its training examples differently; here all count the same."
        if config.class_weights != "none" or config.sampling != "uniform"
        else ""
    )
    return tuple(note for note in (frozen, weighted) if note)
