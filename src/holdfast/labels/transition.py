"""Transition matrices F of wrong labels: ``F[y, o] = P(observed class is o | true class is y)``, so rows are true and sum to 1.

Closed forms, checks, the inverse and what it costs, files. NumPy alone, so that the command line and the losses use the same.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError, DataError

__all__ = [
    "MAX_RHO",
    "check_correctable",
    "check_transition",
    "cond",
    "inverse",
    "is_singular",
    "pair",
    "read_transition",
    "refusal",
    "rho",
    "symmetric",
    "write_transition",
]

log = logging.getLogger("holdfast")

Matrix = NDArray[np.float64]

MAX_RHO = 20.0
"""Above it a correction multiplies the noise of the loss so much that it is refused."""

ROW_TOLERANCE = 1e-6
MAX_COND = 1e3
SUFFIXES = (".csv", ".npy", ".npz", ".json")
KEY = "transition"


def symmetric(num_classes: int, rate: float, *, self_flips: bool = False) -> Matrix:
    """Noise that replaces a label by any other class alike.

    Args:
        num_classes: K, at least 2.
        rate: Probability that a label is replaced, from 0 to 1.
        self_flips: Whether the replacement is drawn from all classes, its own among them.

    Returns:
        (K, K): ``1 - rate`` on the diagonal and ``rate / (K - 1)`` elsewhere; with self flips ``1 - rate + rate / K`` and ``rate / K``.

    Raises:
        ConfigError: There are fewer than two classes, or the rate is no probability.

    Example:
        >>> symmetric(3, 0.5)
        array([[0.5 , 0.25, 0.25],
               [0.25, 0.5 , 0.25],
               [0.25, 0.25, 0.5 ]])
    """
    _check_form("symmetric", num_classes, rate)
    share = rate / num_classes if self_flips else rate / (num_classes - 1)
    matrix = np.full((num_classes, num_classes), share)
    np.fill_diagonal(matrix, 1 - rate + share if self_flips else 1 - rate)
    return matrix


def pair(num_classes: int, rate: float) -> Matrix:
    """Noise that turns class ``y`` into ``y + 1``, and the last class into the first, with probability ``rate``: (K, K).

    Raises:
        ConfigError: There are fewer than two classes, or the rate is no probability.
    """
    _check_form("pair", num_classes, rate)
    return (1 - rate) * np.eye(num_classes) + rate * np.roll(np.eye(num_classes), 1, axis=1)


def _check_form(form: str, num_classes: int, rate: float) -> None:
    if num_classes < 2:
        raise ConfigError(f"{form}: wrong labels need at least 2 classes, got {num_classes}")
    if not 0 <= rate <= 1:
        raise ConfigError(f"{form}:{rate}: expected a rate from 0 to 1, such as {form}:0.4")


def check_transition(matrix: Any, name: str = KEY) -> Matrix:
    """The matrix in float64, refused where it is no transition matrix.

    Warns where correcting with it will be fragile: the condition number is above 1000, or a class is observed as another more often than
    as itself.

    Args:
        matrix: Anything NumPy can read as (K, K), rows true and columns observed.
        name: How the user calls it, for messages.

    Returns:
        (K, K), a copy.

    Raises:
        DataError: Not square, not finite, negative, or a row does not sum to 1 within 1e-6.
    """
    found = _square(matrix, name)
    bad = np.argwhere(~np.isfinite(found) | (found < 0))
    if len(bad):
        row, column = (int(number) for number in bad[0])
        raise DataError(f"{name}: row {row}, column {column} is {found[row, column]:g}; expected probabilities, from 0 to 1")
    _check_sums(found, name)
    _warn_if_fragile(found, name)
    return found


def _square(matrix: Any, name: str) -> Matrix:
    try:
        found = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected a matrix of numbers with rows of equal length, true classes by observed classes") from error
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
        shape = " x ".join(map(str, found.shape)) or "a single number"
        raise DataError(f"{name}: expected a square matrix, a row for each true and a column for each observed class, got {shape}")
    return found


def _check_sums(matrix: Matrix, name: str) -> None:
    sums = matrix.sum(axis=1)
    off = np.abs(sums - 1) > ROW_TOLERANCE
    if not off.any():
        return
    row = int(off.argmax())
    turned = np.abs(matrix.sum(axis=0) - 1).max() <= ROW_TOLERANCE
    hint = "its columns do: transpose it, rows are true classes" if turned else "divide each row by its sum if these are counts"
    raise DataError(f"{name}: row {row} sums to {sums[row]:.6g}, expected 1; {hint}")


def _warn_if_fragile(matrix: Matrix, name: str) -> None:
    if (number := cond(matrix)) > MAX_COND:
        what = "the matrix is singular" if math.isinf(number) else f"the condition number is {number:.3g}"
        log.warning("%s: %s; a loss corrected with it will be noisy", name, what)
    weak = np.flatnonzero(matrix.diagonal() < matrix.max(axis=1))
    if len(weak):
        row = int(weak[0])
        others = f", and {len(weak) - 1} more" if len(weak) > 1 else ""
        log.warning(
            "%s: class %d is observed as class %d more often than as itself (row %d%s); are rows true and columns observed?",
            *(name, row, int(matrix[row].argmax()), row, others),
        )


def is_singular(matrix: Matrix) -> bool:
    """Whether the matrix has no inverse to working precision."""
    return math.isinf(cond(matrix))


def inverse(matrix: Matrix, *, ridge: float = 0.0) -> Matrix:
    """``R`` with ``F R = I``, the matrix of the backward correction.

    Args:
        matrix: F (K, K).
        ridge: λ of ``(FᵀF + λI)⁻¹Fᵀ``, which shrinks the inverse and biases the correction.

    Returns:
        (K, K), row ``o`` holding the weights of the classes' losses for the observed class ``o``; the Moore-Penrose inverse of a singular
        matrix, with a warning.
    """
    if ridge:
        return cast(Matrix, np.linalg.solve(matrix.T @ matrix + ridge * np.eye(len(matrix)), matrix.T))
    if is_singular(matrix):
        log.warning("transition: the matrix is singular, so the pseudo-inverse takes the place of its inverse and the correction is biased")
    return _inverted(matrix)


def _inverted(matrix: Matrix) -> Matrix:
    return cast(Matrix, np.linalg.pinv(matrix, rcond=_rank_tolerance(matrix)) if is_singular(matrix) else np.linalg.inv(matrix))


def _rank_tolerance(matrix: Matrix) -> float:
    """The share of the largest singular value below which one counts as 0."""
    return len(matrix) * float(np.finfo(np.float64).eps)


def rho(matrix: Matrix) -> float:
    """``max_o Σ_k |R[o, k]|`` of the inverse R of ``matrix``: the factor by which correcting spreads the loss, at least 1 if invertible.

    Example:
        >>> round(rho(symmetric(10, 0.4)), 2), round(rho(symmetric(2, 0.4)), 2)
        (2.44, 5.0)
    """
    return float(np.abs(_inverted(matrix)).sum(axis=1).max())


def cond(matrix: Matrix) -> float:
    """Largest over smallest singular value; infinite for a singular matrix."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float("inf") if values[-1] <= _rank_tolerance(matrix) * values[0] else float(values[0] / values[-1])


def refusal(matrix: Matrix) -> str | None:
    """Why a correction cannot work with this matrix, in words: it is singular, or its ``rho`` is above 20; None where it can."""
    if is_singular(matrix):
        return "the matrix is singular: different true classes look the same in the observed labels"
    if (factor := rho(matrix)) > MAX_RHO:
        return f"rho is {factor:.4g}, so correcting multiplies the noise of the loss by that much, and more than {MAX_RHO:g} is refused"
    return None


def check_correctable(matrix: Matrix, name: str = KEY, *, force: bool = False) -> None:
    """Refuse a matrix with which a correction cannot work: a singular one, or one with ``rho`` above 20; with ``force``, warn.

    Raises:
        DataError: Says what is wrong and how to insist.
    """
    problem = refusal(matrix)
    if problem is None:
        return
    if not force:
        raise DataError(f"{name}: {problem}; use a loss without a matrix, such as gce, or insist with force=true")
    log.warning("%s: %s; used all the same, as asked", name, problem)


def read_transition(spec: str | os.PathLike[str], num_classes: int, *, name: str = KEY) -> Matrix:
    """The matrix that a user names.

    Args:
        spec: ``symmetric:RATE``, ``pair:RATE``, or a file: ``.csv`` with a line for each true class and no names, ``.npy``, ``.npz`` with
            one array or one named ``transition``, ``.json`` with a list of rows or an object that has one as ``transition``.
        num_classes: K.
        name: How the user calls the option, for messages.

    Returns:
        (K, K), checked.

    Raises:
        ConfigError: It is neither a form nor a file, or the rate is no probability.
        DataError: The file cannot be read, or holds no transition matrix of K classes.
    """
    text = os.fspath(spec)
    form, _, rate = text.partition(":")
    if form in ("symmetric", "pair"):
        made = (symmetric if form == "symmetric" else pair)(num_classes, _rate(form, rate, name))
        return check_transition(made, f"{name} {text!r}")
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{name}: expected symmetric:RATE, pair:RATE or a file ending in {', '.join(SUFFIXES)}, got {text!r}")
    matrix = check_transition(_read_file(path, f"{name} {text!r}"), f"{name} {text!r}")
    if len(matrix) != num_classes:
        raise DataError(f"{name} {text!r}: the matrix is for {len(matrix)} classes, but the data has {num_classes}")
    return matrix


def _rate(form: str, text: str, name: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 0 <= rate <= 1:
        raise ConfigError(f"{name}: expected {form}:RATE with a rate from 0 to 1, such as {form}:0.4, got {f'{form}:{text}'!r}")
    return rate


def _read_file(path: Path, name: str) -> Any:
    try:
        if path.suffix.lower() == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
            return found[KEY] if isinstance(found, dict) else found
        if path.suffix.lower() == ".csv":
            return _read_csv(path)
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return found[KEY if KEY in found.files or len(found.files) != 1 else found.files[0]]
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror or 'the file cannot be read'}; expected a file with a transition matrix") from error
    except KeyError as error:
        raise DataError(f"{name}: there is no entry {KEY!r} in the file; name the matrix so") from error
    except (ValueError, EOFError, csv.Error) as error:
        kind = {".csv": "numbers joined by commas, a line for each true class", ".json": "a JSON list of rows"}.get(
            path.suffix.lower(), "a NumPy array without pickled objects"
        )
        raise DataError(f"{name}: expected {kind}, but it cannot be read so") from error


def _read_csv(path: Path) -> list[list[float]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [[float(cell) for cell in row] for row in csv.reader(file) if row and not row[0].startswith("#")]


def write_transition(path: str | os.PathLike[str], matrix: Matrix, *, classes: Sequence[str] | None = None) -> None:
    """Write a matrix as :func:`read_transition` reads it, in the format of the file's ending.

    Args:
        path: A file ending in ``.csv``, ``.npy``, ``.npz`` or ``.json``.
        matrix: F (K, K).
        classes: Their names, which JSON and NPZ keep for people to read.

    Raises:
        ConfigError: The ending is another.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{str(path)!r}: expected a file ending in {', '.join(SUFFIXES)}")
    if suffix == ".json":
        record = ({"classes": list(classes)} if classes is not None else {}) | {KEY: np.asarray(matrix).tolist()}
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    elif suffix == ".csv":
        rows = (",".join(map(repr, row)) for row in np.asarray(matrix, dtype=np.float64).tolist())
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    elif suffix == ".npy":
        np.save(path, matrix)
    else:
        arrays: dict[str, Any] = {KEY: matrix} | ({"classes": np.array(list(classes))} if classes is not None else {})
        np.savez(path, **arrays)
