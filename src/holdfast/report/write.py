"""Writing the page: which file, and in words when it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from holdfast.errors import ConfigError, RunError
from holdfast.report.compared import is_comparison, open_compared
from holdfast.report.page import render
from holdfast.report.subject import open_subject
from holdfast.run import atomic_write

__all__ = ["COMPARISON", "REPORT", "write_report"]

REPORT = "report.html"
COMPARISON = "comparison.html"


def write_report(paths: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write one HTML page about run, audit and comparison directories, as a whole or not at all.

    The page stands alone: no script, and nothing is loaded. The same files give the same bytes.

    Args:
        paths: Directories of finished runs, of audits, of both, or of comparisons.
        out: The file; ``report.html`` in the directory where there is only one, ``comparison.html`` in that of a comparison.

    Returns:
        The file.

    Raises:
        ConfigError: No directory is given, or no file for several.
        RunError: A directory holds no finished run and no audit, a file of it is damaged, or the page cannot be written.
        CheckpointError: Stored predictions are damaged.
    """
    folders = list(dict.fromkeys(Path(path) for path in paths))
    if not folders:
        raise ConfigError("DIR is missing; for example: holdfast report runs/cars.")
    if out is None and len(folders) > 1:
        raise ConfigError("--out is missing: a report of several directories needs a file; type --out report.html.")
    target = Path(out) if out is not None else folders[0] / (COMPARISON if is_comparison(folders[0]) else REPORT)
    if target.is_dir():
        raise ConfigError(f"--out {target}: expected a file, this is a directory; type --out {target / REPORT}.")
    page = render([open_compared(folder) if is_comparison(folder) else open_subject(folder) for folder in folders])
    try:
        with atomic_write(target) as stream:
            stream.write(page.encode())
    except OSError as error:
        raise RunError(f"cannot write {str(target)!r}: {error.strerror or error}; choose another place with --out FILE") from error
    return target
