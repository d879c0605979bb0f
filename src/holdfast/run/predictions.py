"""What a run says of its examples, as arrays in an ``.npz`` file without pickled objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from holdfast.errors import CheckpointError, RunError
from holdfast.run.files import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Predictions", "read_predictions", "write_predictions"]


class Predictions(NamedTuple):
    """What the selected weights say of one split: ``logits`` (N, K), ``labels`` (N,), ``ids`` (N,) as text."""

    logits: NDArray[np.floating]
    labels: NDArray[np.int64]
    ids: NDArray[np.str_]


def write_predictions(stream: BinaryIO, predictions: Mapping[str, tuple[Any, Any, Any]]) -> None:
    """Store logits (N, K), labels (N,) and ids (N,) of each split.

    Raises:
        RunError: A split has not one of each for every example.
    """
    import numpy as np

    arrays: dict[str, Any] = {}
    for split, (logits, labels, ids) in predictions.items():
        rows = (np.asarray(logits), np.asarray(labels, dtype=np.int64), np.asarray(ids, dtype=np.str_))
        if len({len(part) for part in rows}) > 1:
            counts = ", ".join(f"{len(part)} {name}" for part, name in zip(rows, Predictions._fields, strict=True))
            raise RunError(f"predictions of {split!r} have {counts}; give one of each for every example")
        arrays.update({f"{split}_{name}": part for name, part in zip(Predictions._fields, rows, strict=True)})
    np.savez(stream, **arrays)


def read_predictions(file: Path) -> dict[str, Predictions]:
    """Stored predictions by split.

    Raises:
        CheckpointError: The file is damaged, or holds pickled objects, which are never loaded.
    """
    import numpy as np

    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            splits = [name.removesuffix("_logits") for name in stored.files if name.endswith("_logits")]
            return {split: Predictions(*(stored[f"{split}_{name}"] for name in Predictions._fields)) for split in splits}
    except Exception as error:  # zip, zlib and numpy raise a dozen kinds for a file that is not what it should be
        raise CheckpointError(f"{str(file)!r} is damaged: {one_line(error)}") from error
