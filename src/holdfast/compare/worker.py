"""A process that makes one run after the other: torch is imported once. It is told what to do by lines on its standard input.

It says that it is there by a line, ``null``. Each line it is given is a cell and a folder as JSON, and is answered by one line, how the
attempt ended. The end of the input means that nobody
waits for answers any more, be it that the comparison is over or that its process was killed: the run then stops with a checkpoint.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from holdfast.compare.cells import Cell, Setting
from holdfast.compare.work import attempt
from holdfast.errors import Interrupted

__all__ = ["PATIENCE", "cell_from_json", "cell_to_json", "main"]

PATIENCE = 120.0
"""Seconds that a run has for its last checkpoint; then the process ends as it is, and the checkpoint before that one counts."""


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """A cell as plain values."""
    return asdict(cell)


def cell_from_json(values: Mapping[str, Any]) -> Cell:
    """The cell of :func:`cell_to_json`."""
    return Cell(**{**values, "setting": Setting(**values["setting"])})


def main() -> None:
    """Serve until the input ends."""
    answers = _private_output()
    orders: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, orders), daemon=True).start()
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    import holdfast.build  # noqa: F401  # with all that a run needs, torch above all

    _answer(answers, None)
    while (line := orders.get()) is not None:
        order = json.loads(line)
        try:
            cell = cell_from_json(order["cell"])
            ended = attempt(cell, Path(order["folder"]), failed=functools.partial(_log, cell))
        except (Interrupted, KeyboardInterrupt):
            return
        _answer(answers, asdict(ended))


def _log(cell: Cell, error: BaseException) -> None:
    """Where it happened, for the file that the standard error goes to."""
    where = f"{cell.method}, seed {cell.seed}, data seed {cell.data_seed}{f', {cell.trial}' if cell.trial else ''} (runs/{cell.key})"
    sys.stderr.write(f"--- {where}\n{''.join(traceback.format_exception(error))}")
    sys.stderr.flush()


def _private_output() -> TextIO:
    """The stream for answers; whatever else writes to the standard output goes where errors go."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answer(answers: TextIO, value: Any) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        answers.write(json.dumps(value) + "\n")
        answers.flush()


def _listen(stream: TextIO, orders: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        orders.put(line)
    orders.put(None)
    os.kill(os.getpid(), signal.SIGTERM)  # a run stops with a checkpoint; where there is none, so does the process
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    main()
