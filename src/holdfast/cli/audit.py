"""``holdfast audit``: how far a fine-tuned network moved, how sharp its loss is along the way, and what follows."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.auditing.options import OPTIONS, AuditOptions, Option
from holdfast.auditing.result import Audit
from holdfast.cli.arguments import COMMON, Argument, parse
from holdfast.cli.audit_progress import progress
from holdfast.cli.audit_summary import print_audit
from holdfast.cli.help import HelpPage
from holdfast.cli.messages import is_main_rank
from holdfast.config.checks import check_device
from holdfast.errors import ConfigError, ModelError, RunError
from holdfast.run import Run

__all__ = ["page", "run"]

SUBJECT = (
    Argument("--model", "the network of a checkpoint made elsewhere, such as timm:resnet50", "MODEL"),
    Argument("--weights", "file with its fine-tuned weights", "FILE"),
    Argument("--source", "what fine-tuning started from: a file or a MODEL; for a run, where its pretrained weights are now", "FILE"),
    Argument("--data", "its data, in the forms of 'holdfast fit'; for a run, where its data are now", "DATA"),
)
OUTPUT = (
    Argument("--out", "folder for audit.json, where there is no run directory", "DIR"),
    Argument("--report", "write report.html beside audit.json", default="on", negatable=True),
    Argument("--quiet", "no progress, only the summary at the end"),
    *COMMON,
)
_GROUPS = {
    "How much": ("full", "budget", "samples", "rtol", "batch_size"),
    "What": ("over", "mode", "head", "layers", "differences"),
    "Bound": ("eps", "loss_bound", "p_min"),
    "Machine": ("seed", "device", "threads"),
}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _argument(name: str, option: Option) -> Argument:
    return Argument(_flag(name), option.help, option.metavar, option.default, option.choices)


MEASURING = {name: _argument(name, option) for name, option in OPTIONS.items()}


def page() -> HelpPage:
    """The page behind ``holdfast audit --help``."""
    return HelpPage(
        usage=("holdfast audit RUN [options]", "holdfast audit --model MODEL --weights FILE --source FILE --data DATA --out DIR [options]"),
        about=(
            "Say how far fine-tuning moved the network, how sharp the loss is along that move, what a generalization bound based on the "
            "Hessian gives, how the loss stands noise on the weights, and what became of features and confidences. Writes audit.json, "
            "with the error of each estimate, and a report. Two minutes by default; what could not be known by then is marked.",
        ),
        words=(("RUN", "a run directory that 'holdfast fit' has finished"),),
        groups={
            **{title: [MEASURING[name] for name in names] for title, names in _GROUPS.items()},
            "Checkpoints made elsewhere": SUBJECT,
            "This command": OUTPUT,
        },
        examples=(
            ("a run, in about two minutes", "holdfast audit runs/cars"),
            ("everything, over single examples as the theory asks; may take hours", "holdfast audit runs/cars --full"),
            ("the same work on any machine: 300 products with the Hessian", "holdfast audit runs/cars --budget 300products"),
            (
                "a network that was trained elsewhere",
                "holdfast audit --model timm:resnet50 --weights tuned.safetensors --source timm:resnet50 --data cars/ --out audits/cars",
            ),
        ),
        closing="Every option is also a keyword of holdfast.audit in Python, with underscores, which audits networks in memory too.",
    )


def run(argv: Sequence[str]) -> int:
    """Measure, write, and print the summary."""
    parsed = parse(argv, (*MEASURING.values(), *SUBJECT, *OUTPUT))
    parsed.no_more_than(1, "audit")
    options = AuditOptions.resolve({name: parsed.values[name] for name in OPTIONS if name in parsed.values}, _flag)
    check_device(options.device, "--device")
    subject = {argument.key: parsed.values.get(argument.key) for argument in SUBJECT}
    finished = _open(parsed.words, subject, parsed.values.get("out"))
    quiet = "quiet" in parsed.values or not is_main_rank()
    found = _audit(finished, options, subject, parsed.values.get("out"), quiet)
    if is_main_rank():
        report = _report(found, parsed.values.get("report", "true"))
        print_audit(found, report)
    return 0


def _open(words: Sequence[str], subject: dict[str, Any], out: str | None) -> Run | None:
    """The run to audit, or None for checkpoints; whatever is wrong without torch is said before it is loaded."""
    if not words:
        if not any(subject.values()):
            raise ConfigError("RUN is missing; for example: holdfast audit runs/cars.")
        return None
    for key in ("model", "weights"):
        if subject[key]:
            raise ConfigError(f"--{key} {subject[key]}: RUN {words[0]!r} has a network of its own; leave one of them out.")
    if out is not None:
        raise ConfigError(f"--out {out}: the audit of a run is written into its directory; leave --out out.")
    finished = Run.open(words[0])
    if not finished.finished:
        raise RunError(f"{words[0]!r} has not finished training; type `{finished.resume_command}`")
    return finished


def _audit(run: Run | None, options: AuditOptions, subject: dict[str, Any], out: str | None, quiet: bool) -> Audit:
    from holdfast.auditing.audit import audit_with

    try:
        with progress(quiet=quiet) as listener:
            return audit_with(run, options, **subject, out=out, listener=listener)
    except ModelError as error:  # the library speaks of its keyword
        raise ModelError(str(error).replace("with differences=True", "with --differences")) from error


def _report(found: Audit, wanted: str) -> Path | None:
    """The page, where it is wanted and there is a directory for it."""
    if found.path is None or wanted.lower() in ("false", "no") or importlib.util.find_spec("holdfast.report") is None:
        return None
    from holdfast.report import write_report

    return write_report([found.path.parent])
