"""The files of a comparison: ``comparison.json``, ``comparison.csv`` and ``comparison.tex``."""

from __future__ import annotations

from pathlib import Path

from holdfast.compare.latex import latex_text
from holdfast.compare.record import FILE, Comparison
from holdfast.compare.record_file import to_text
from holdfast.compare.table import csv_text
from holdfast.errors import RunError
from holdfast.run import atomic_write
from holdfast.run.files import disk_is_full

__all__ = ["write_comparison"]


def write_comparison(folder: str | Path, comparison: Comparison) -> None:
    """Write the record, the table of runs, the LaTeX tables into the comparison's directory, each as a whole.

    ``failures.json`` is not written here: whoever makes the runs keeps it while they fail.

    Raises:
        RunError: A file cannot be written, or the disk is full.
    """
    folder = Path(folder)
    for name, text in ((FILE, to_text(comparison)), ("comparison.csv", csv_text(comparison)), ("comparison.tex", latex_text(comparison))):
        _write(folder / name, text)


def _write(file: Path, text: str) -> None:
    try:
        with atomic_write(file) as stream:
            stream.write(text.encode())
    except OSError as error:
        if disk_is_full(error):
            raise RunError(f"no space left for {str(file)!r}; free space and repeat the command: finished runs are kept") from error
        raise RunError(f"cannot write {str(file)!r}: {error.strerror or error}") from error
