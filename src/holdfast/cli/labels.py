"""``holdfast labels``: four commands for labels that may be wrong, each in a module of its own."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.cli.arguments import COMMON
from holdfast.cli.help import HelpPage
from holdfast.errors import ConfigError, suggest

__all__ = ["BELOW", "page", "run"]

BELOW = {
    "inject": "make labels wrong on purpose, by a rule that is known",
    "estimate": "how often each class is taken for each other: the transition matrix, with intervals",
    "aggregate": "one label from many: votes of annotators, or of rules from a file",
    "issues": "labels that look wrong, worst first, as a sheet to mark; and the marked sheet back in",
}
"""The commands below this one; ``holdfast labels NAME`` is in the module ``labels_NAME``."""


def page() -> HelpPage:
    """The page behind ``holdfast labels --help``."""
    return HelpPage(
        usage=("holdfast labels COMMAND DATA ...",),
        about=(
            "For labels that may be wrong. Each command reads what 'holdfast fit' reads, images or texts, and writes a table that it reads "
            "in turn, so that the four can follow each other.",
        ),
        words=tuple(BELOW.items()),
        words_title="Commands",
        groups={"Options": COMMON},
        examples=(
            ("wrong labels to try things on", "holdfast labels inject demo:digits --noise symmetric --rate 0.2 --out noisy/digits.csv"),
            ("what is wrong with them", "holdfast labels estimate noisy/digits.csv --model demo:glyphnet --out noisy/F.json"),
            ("which to look at", "holdfast labels issues noisy/digits.csv --model demo:glyphnet --out noisy/sheet.html"),
        ),
        closing="'holdfast labels COMMAND --help' shows the options of one.",
    )


def run(argv: Sequence[str]) -> int:
    """Only reached without a known command."""
    if not argv or argv[0].startswith("-"):
        raise ConfigError(f"labels: a command is missing; there are {', '.join(BELOW)}, for example: holdfast labels estimate cars/")
    raise ConfigError(f"labels: unknown command {argv[0]!r}. {suggest(argv[0], BELOW)}")
