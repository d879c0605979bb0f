"""``holdfast report``: run, audit and comparison directories as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from holdfast.cli.arguments import COMMON, Argument, parse
from holdfast.cli.help import HelpPage
from holdfast.cli.terminal import out
from holdfast.errors import ConfigError

__all__ = ["page", "run"]

ARGUMENTS = (
    Argument(
        "--out",
        "the file to write; an older one is replaced",
        "FILE",
        default="report.html in DIR, or comparison.html, where there is only one",
    ),
    *COMMON,
)


def page() -> HelpPage:
    """The page behind ``holdfast report --help``."""
    return HelpPage(
        usage=("holdfast report DIR [--out FILE]", "holdfast report DIR DIR... --out FILE"),
        about=(
            "Write one HTML page on finished runs, audits and comparisons: result with interval, how training went, accuracy by class, "
            "calibration, what the audit found, cost, and how to repeat it, each with what it means and when not to believe it. Several "
            "directories give one page with a comparison on top. The page of a comparison has verdicts with intervals, costs, learning "
            "curves and differences by class.",
            "The page stands alone: it can be mailed, opened without a network and printed. It has no script, and nothing is loaded.",
        ),
        words=(("DIR", "a directory that 'holdfast fit' has finished, or that 'holdfast audit' or 'holdfast compare' has written"),),
        groups={"Options": ARGUMENTS},
        examples=(
            ("a run, with its audit where there is one", "holdfast report runs/cars"),
            ("a comparison", "holdfast report runs/cars-compared"),
            ("two runs side by side", "holdfast report runs/plain runs/adarand --out plain-adarand.html"),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Write the page and say where it is."""
    parsed = parse(argv, ARGUMENTS)
    if not parsed.words:
        raise ConfigError("report: DIR is missing; for example: holdfast report runs/cars.")
    from holdfast.report import write_report

    out.print(Text(f"Report: {write_report(parsed.words, parsed.values.get('out'))}"), soft_wrap=True)
    return 0
