"""What is shown while an audit measures: a bar for each part on a terminal, two lines elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from holdfast.auditing.events import AuditStarted, Estimated, Event, Listener, PartDone, PartProgress, PartStarted, ignore
from holdfast.cli.terminal import err
from holdfast.wording import count, duration

__all__ = ["progress"]

REFRESH_SECONDS = 0.25

SHORT = 2.0
"""Parts that end sooner, in seconds, are not told of in a log."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Listener]:
    """A listener that shows an audit's events until the block ends.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield ignore
    elif err.is_terminal:
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.stop()
    else:
        yield _lines


def _lines(event: Event) -> None:
    """Plain lines, for logs."""
    match event:
        case AuditStarted():
            _print(_opening(event))
        case Estimated():
            _print(_estimate(event))
        case PartStarted(products=products, seconds=seconds) if products and seconds is not None:
            _print(f"{event.part}: up to {products} products, about {duration(seconds)}")
        case PartDone() if event.products or event.seconds > SHORT:
            made = f"{event.products} products in " if event.products else ""
            _print(f"{event.part}: {made}{duration(event.seconds)}")


class _Bars:
    """One bar a part; its length is the products or the seconds that it probably takes."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=20 if err.width >= 100 else 10),
            TextColumn("{task.fields[made]}"),
            TimeElapsedColumn(),
            console=err,
            auto_refresh=False,
        )
        self._task: TaskID | None = None
        self._expected: int | None = None
        self._drawn = 0.0

    def stop(self) -> None:
        """End drawing; the bars stay where they are."""
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case AuditStarted():
                _print(_opening(event))
                self._progress.start()
            case Estimated():
                _print(_estimate(event))
            case PartStarted():
                self._expected = event.products
                self._task = self._progress.add_task(event.part, total=event.products or None, made="")
                self._draw()
            case PartProgress() if self._task is not None:
                self._advance(self._task, event.products)
            case PartDone() if self._task is not None:
                made = f"{event.products} products" if event.products else ""
                self._progress.update(self._task, total=1, completed=1, made=made)
                self._draw()

    def _advance(self, task: TaskID, products: int) -> None:
        # More than expected: an estimate is no promise, and a bar should not stand still at its end.
        total = None if self._expected is None or products > self._expected else self._expected
        of = f" of about {self._expected}" if total else ""
        self._progress.update(task, completed=products, total=total, made=f"{products}{of} products")
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._draw()

    def _draw(self) -> None:
        self._progress.refresh()
        self._drawn = time.monotonic()


def _opening(event: AuditStarted) -> str:
    name = event.subject["run"] or event.subject["model"]
    return f"auditing {name}: {count(event.subject['parameters'])} parameters, {event.layers} layers measured"


def _estimate(event: Estimated) -> str:
    limit = f"; at most {duration(event.seconds)} for everything" if event.seconds is not None else ""
    limit = f"; at most {event.products} products" if event.products is not None else limit
    each = duration(event.product_seconds) if event.product_seconds >= 1 else f"{1000 * event.product_seconds:.0f} ms"
    return (
        f"a product with the Hessian takes {each} here and about {event.memory_mib:.0f} MiB beside the network"
        f"{limit or '; there is no limit, so this may take long'}"
    )


def _print(text: str) -> None:
    err.print(Text(text), soft_wrap=True)
