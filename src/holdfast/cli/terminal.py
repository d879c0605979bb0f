"""The two streams of a command: results go to ``out``, progress and messages to ``err``."""

from __future__ import annotations

import io
import os

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["err", "out", "page_width", "print_whole", "wrapped_command"]

WIDEST = 110
"""Columns beyond which lines are hard to read."""

out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def page_width(console: Console) -> int:
    """Width for text: the terminal's, within reason. A file or pipe has none of its own."""
    return min(console.width, WIDEST) if console.is_terminal or "COLUMNS" in os.environ else WIDEST


def print_whole(table: Table) -> None:
    """Print a table to ``out`` in lines as long as they have to be: intervals that are cut off say nothing."""
    wide = Console(file=io.StringIO(), width=1000)
    with wide.capture() as capture:
        wide.print(table)
    for number, line in enumerate(capture.get().splitlines()):
        out.print(Text(line.rstrip(), "" if number else "bold"), soft_wrap=True)


def wrapped_command(command: str, width: int) -> str:
    r"""A command that can be copied to a shell, broken before options where it is too long.

    Example:
        >>> print(wrapped_command("holdfast fit cars/ --model timm:resnet50 --out runs/cars", 44))
        holdfast fit cars/ --model timm:resnet50 \
          --out runs/cars
    """
    lines = [""]
    for number, part in enumerate(command.split(" --")):
        piece = f"--{part}" if number else part
        if lines[-1].strip() and len(lines[-1]) + len(piece) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"  {piece}")
        else:
            lines[-1] = f"{lines[-1]} {piece}" if lines[-1] else piece
    return "\n".join(lines)
