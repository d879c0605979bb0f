"""What was not met, what it cost, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.report.blocks import Block, Command, Facts, Points, Section, Table
from holdfast.report.numbers import amount, integer
from holdfast.report.reading import at, number, plain_text
from holdfast.report.subject import Subject
from holdfast.wording import duration

__all__ = ["cost", "notes", "repeat"]

SETTINGS = ("over", "mode", "head", "layers", "samples", "rtol", "budget", "full", "seed", "labels", "loss", "eps", "device", "threads")


def notes(subject: Subject) -> Section | None:
    """What the audit left out or did not reach, or that there was none."""
    if subject.audit is None:
        return Section(
            "audit",
            "Not audited yet",
            "How far the network moved from its start, how sharp its loss is, what a bound promises and what became of the features is not "
            "known yet. An audit measures it; then make this report again.",
            blocks=[Command(f"holdfast audit {shlex.quote(str(subject.path))}")],
        )
    sentences = [plain_text(sentence) for sentence in subject.audit["notes"]]
    if not sentences:
        return Section("notes", "What was not met", "Nothing: everything asked for was measured as exactly as asked.")
    blocks: list[Block] = [Points("In the words of the audit", sentences)]
    if subject.run is not None and at(subject.audit, "settings", "full") is not True:
        blocks.append(Command(f"holdfast audit {shlex.quote(str(subject.path))} --full"))
    return Section(
        "notes",
        "What was not met",
        "What the audit left out, or did not measure as exactly as asked. Numbers marked 'not met' are among them: take them as rough.",
        blocks=blocks,
    )


def cost(subject: Subject) -> Section | None:
    """Time and memory of training and audit; None where nothing is known."""
    blocks = [block for block in (_of_training(subject.result), _of_audit(subject.audit)) if block is not None]
    if not blocks:
        return None
    return Section(
        "cost",
        "What it cost",
        "Times are wall-clock on the machine as it was then; peak memory on a CPU is that of the whole process, Python and libraries "
        "included.",
        "On a busy machine times are longer. Compare costs of runs made side by side only.",
        blocks,
    )


def repeat(subject: Subject) -> Section:
    """The command that repeats the run, and what has to be the same."""
    blocks: list[Block] = []
    if subject.run is not None and {"data", "model", "epochs"} <= set(subject.config):
        blocks.append(Command(f"holdfast fit --config {shlex.quote(str(subject.path / 'config.yaml'))} --out NEW"))
        meaning = "This repeats the run, with every option as it was; give another seed with --seed to see how much luck was in it."
        doubt = "The same numbers bit for bit come only from the same versions, machine and count of threads; elsewhere they agree closely."
    elif subject.run is not None:
        meaning, doubt = "The run was written by a training loop of its own, which holdfast cannot repeat. What it was made with:", ""
    else:
        meaning, doubt = "There is an audit here, and no run to repeat. What it was made with:", ""
    blocks += [Facts("What it was made with", list(_origin(subject)))]
    if subject.audit is not None:
        blocks.append(_settings(subject.audit))
    return Section("repeat", "How to repeat it", meaning, doubt, blocks)


def _of_training(result: Mapping[str, Any]) -> Facts | None:
    record = result.get("cost")
    if number(at(record, "seconds_total")) is None:
        return None
    rows = [
        ("Training", f"{duration(number(at(record, 'seconds_total')) or 0.0)} on {plain_text(at(record, 'device'))}"),
        ("Steps", f"{integer(at(record, 'steps'))}, {amount(_milliseconds(at(record, 'seconds_per_step')))} ms each"),
        ("Images a second", amount(at(record, "images_per_second"))),
        ("Peak memory", f"{integer(at(record, 'peak_memory_mib'))} MiB"),
    ]
    return Facts("Training", [(name, text) for name, text in rows if not text.startswith("-")])


def _milliseconds(seconds: Any) -> float | None:
    found = number(seconds)
    return None if found is None else 1000 * found


def _of_audit(audit: Mapping[str, Any] | None) -> Table | None:
    record = at(audit, "cost")
    seconds = number(at(record, "seconds"))
    if seconds is None:
        return None
    parts = at(record, "parts")
    rows = [
        [plain_text(name).replace("_", " "), duration(number(at(part, "seconds")) or 0.0), integer(at(part, "products"))]
        for name, part in (parts.items() if isinstance(parts, Mapping) else ())
    ]
    rows.append(["in all", duration(seconds), integer(at(record, "products"))])
    memory = integer(at(record, "peak_memory_mib"))
    return Table(f"The audit, with a peak memory of {memory} MiB", ("part", "time", "products with the Hessian"), rows)


def _origin(subject: Subject) -> Iterator[tuple[str, str]]:
    versions = subject.run.versions if subject.run else {}
    packages = [f"{name} {version}" for name, version in versions.items() if name != "created" and version]
    named = [
        ("Versions", ", ".join(packages)),
        ("Begun", plain_text(versions.get("created"))),
        ("Audited", plain_text(at(subject.audit, "finished"))),
        ("Data fingerprint", plain_text(at(subject.result, "data", "fingerprint") or at(subject.audit, "subject", "data_fingerprint"))),
        (
            "Reference fingerprint",
            plain_text(at(subject.result, "model", "reference_fingerprint") or at(subject.audit, "subject", "reference_fingerprint")),
        ),
        ("Hash of the options", plain_text(subject.result.get("config_hash"))),
    ]
    yield from ((name, text) for name, text in named if text)


def _settings(audit: Mapping[str, Any]) -> Facts:
    settings = audit["settings"]
    rows = [(key, plain_text(settings[key])) for key in SETTINGS if settings[key] is not None]
    return Facts("Settings of the audit", rows)
