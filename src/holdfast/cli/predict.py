"""``holdfast predict``: classes and confidences as CSV, JSON lines, or a table on a terminal."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.table import Table
from rich.text import Text

from holdfast.catalog import reads_texts
from holdfast.cli.arguments import COMMON, Argument, parse
from holdfast.cli.help import HelpPage
from holdfast.cli.messages import tell
from holdfast.cli.terminal import out
from holdfast.config.checks import check_device
from holdfast.errors import ConfigError, DataError, RunError
from holdfast.predict import find_inputs, predict
from holdfast.run import Run, atomic_write
from holdfast.wording import percent

if TYPE_CHECKING:
    from holdfast.predict import Prediction

__all__ = ["page", "run"]

COLUMNS = ("input", "class", "confidence", "second_class", "second_confidence")
ARGUMENTS = (
    Argument("--out", "write to this file, which ends in .csv or .jsonl, instead of the terminal", "FILE"),
    Argument("--device", "auto, cpu, cuda or cuda:N", "DEVICE", default="auto"),
    *COMMON,
)


def page() -> HelpPage:
    """The page behind ``holdfast predict --help``."""
    return HelpPage(
        usage=("holdfast predict RUN INPUTS... [--out FILE]",),
        about=(
            "Tell the class of images, or of texts where RUN was trained on texts, with the softmax probability of the class and of the "
            "runner-up. A table on a terminal; CSV where the output goes to a pipe or file. What cannot be read is named on stderr and "
            "left out; all others are still classified, and the exit status is 2.",
        ),
        words=(
            ("RUN", "a run directory that 'holdfast fit' has finished"),
            (
                "INPUTS",
                "image files, and folders that are searched for images; or .txt (a text a line), .csv and .jsonl files (column text)",
            ),
        ),
        groups={"Options": ARGUMENTS},
        examples=(
            ("one image", "holdfast predict runs/cars photo.jpg"),
            ("a folder, into a file for a spreadsheet", "holdfast predict runs/cars new_photos/ --out classes.csv"),
            ("texts, one a line", "holdfast predict runs/questions new.txt"),
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Classify and print."""
    parsed = parse(argv, ARGUMENTS)
    if len(parsed.words) < 2:
        raise ConfigError(
            f"{'INPUTS are' if parsed.words else 'RUN and INPUTS are'} missing; for example: holdfast predict runs/cars photo.jpg"
        )
    device, file = parsed.values.get("device", "auto"), parsed.values.get("out")
    check_device(device, "--device")
    if file is not None and Path(file).suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--out {file}: expected a file name that ends in .csv or .jsonl.")
    finished = Run.open(parsed.words[0])
    found, texts = find_inputs(finished, parsed.words[1:]), reads_texts(str(finished.config.get("model")))
    unreadable: list[str] = []

    def report(path: str, error: DataError) -> None:
        unreadable.append(path)
        tell(f"error: {error}")

    _write(predict(finished, parsed.words[1:], device=device, on_unreadable=report), file, texts)
    if unreadable:
        tell(f"{len(unreadable)} of {len(found)} {'texts' if texts else 'images'} could not be read and are left out.")
    return 2 if unreadable else 0


def _write(predictions: Iterable[Prediction], file: str | None, texts: bool) -> None:
    if file is None and out.is_terminal:
        _print_table(predictions, texts)
        return
    columns = (*COLUMNS, "text") if texts else COLUMNS
    with _stream(file) as stream:
        if file is not None and file.endswith(".jsonl"):
            stream.writelines(json.dumps(dict(zip(columns, _row(entry), strict=True)), ensure_ascii=False) + "\n" for entry in predictions)
            return
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(_row, predictions))


def _row(entry: Prediction) -> tuple[str | float, ...]:
    row = (entry.input, entry.label, round(entry.confidence, 6), entry.second, round(entry.second_confidence, 6))
    return row if entry.text is None else (*row, entry.text)


@contextmanager
def _stream(file: str | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears when it is whole."""
    if file is None:
        yield sys.stdout
        return
    try:
        with atomic_write(Path(file)) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
            yield text
            text.flush()
            text.detach()
    except OSError as error:
        raise RunError(f"--out {file}: cannot be written: {error.strerror or error}.") from error


def _print_table(predictions: Iterable[Prediction], texts: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    first = "text" if texts else "image"
    for column, justify in ((first, "left"), ("class", "left"), ("confidence", "right"), ("second", "left"), ("", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    for entry in predictions:
        cells = (entry.text or entry.input, entry.label, percent(entry.confidence), entry.second, percent(entry.second_confidence))
        table.add_row(*map(Text, cells))
    out.print(table)
