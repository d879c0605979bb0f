"""Warnings and log records as one plain line each, above a progress bar where there is one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.text import Text

from holdfast.cli.noise import KNOWN_NOISE
from holdfast.cli.terminal import err

__all__ = ["is_main_rank", "messages", "tell"]


def tell(text: str, style: str = "") -> None:
    """A line for the user, beside the results."""
    err.print(Text(f"holdfast: {text}", style), soft_wrap=True)


def is_main_rank() -> bool:
    """Whether this process speaks for the run; under torchrun there are several."""
    return os.environ.get("RANK", "0") == "0"


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        word = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        tell(f"{word}: {record.getMessage()}", "yellow" if word == "warning" else "")


@contextmanager
def messages(*, debug: bool) -> Iterator[None]:
    """Within the block, records of the logger ``holdfast`` and warnings of any library become lines on stderr.

    Args:
        debug: Whether notes below a warning are shown too.
    """
    logger, handler = logging.getLogger("holdfast"), _Handler()
    level, handler_level = logger.level, logging.INFO if debug else logging.WARNING
    handler.setLevel(handler_level if is_main_rank() else logging.ERROR)
    logger.addHandler(handler)
    logger.setLevel(handler_level)
    try:
        with warnings.catch_warnings():
            for category, message in KNOWN_NOISE:
                warnings.filterwarnings("ignore", message, category)
            warnings.showwarning = _show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    text = " ".join(str(message).split())
    logging.getLogger("holdfast").warning("%s (%s, %s:%d)", text, category.__name__, filename, lineno)
